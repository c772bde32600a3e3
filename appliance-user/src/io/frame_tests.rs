//! Frames, packets and the books on a UMEM without a socket: what must hold whatever the rings do. A UMEM belongs to an
//! AF_XDP descriptor, so these tests need root.

use std::num::NonZeroU32;

use xsk_rs::config::UmemConfig;

use super::super::packet::{Assembled, Assembler, MAX_FRAMES, Packet};
use super::super::pool::Pool;
use super::*;

fn umem(frames: u32) -> (Region, Pool) {
    let count = NonZeroU32::new(frames).expect("some frames");
    let (umem, descriptors) = Umem::new(UmemConfig::default(), count, false)
        .unwrap_or_else(|e| panic!("{e}: a UMEM needs AF_XDP and CAP_NET_RAW, run these tests as root"));
    (
        Region::new(umem),
        Pool::new(descriptors, UmemConfig::default().frame_size().get()),
    )
}

/// A frame out of the pool with these bytes in it.
fn filled(region: &mut Region, pool: &mut Pool, bytes: &[u8], continued: bool) -> Frame {
    let descriptor = pool.take().expect("a free frame");
    // SAFETY: holds because the pool gave the frame away and this is its only owner.
    let mut frame = unsafe { region.adopt(descriptor) };
    assert_eq!(frame.fill(bytes), bytes.len());
    frame.set_continued(continued);
    frame
}

#[test]
fn frames_do_not_overlap_and_keep_their_bytes() {
    let (mut region, mut pool) = umem(64);
    let mut frames: Vec<_> = (0..64u8)
        .map(|n| filled(&mut region, &mut pool, &[n; 3840], false))
        .collect();
    assert_eq!(pool.take().map(|d| d.addr()), None);
    for (n, frame) in frames.iter_mut().enumerate() {
        assert!(frame.bytes().iter().all(|&b| usize::from(b) == n));
        frame.bytes_mut().fill(!(n as u8));
    }
    for (n, frame) in frames.iter().enumerate() {
        assert!(
            frame.bytes().iter().all(|&b| b == !(n as u8)),
            "frame {n} was written through another"
        );
    }
    assert_eq!(pool.account().receive, 64);
    for frame in frames {
        let descriptor = region.surrender(frame).expect("its own frame");
        pool.recycled(descriptor);
    }
    assert_eq!((pool.account().pool, pool.account().receive), (64, 0));
    assert!(pool.account().is_balanced());
}

#[test]
fn a_frame_takes_what_fits_and_no_more() {
    let (mut region, mut pool) = umem(2);
    let descriptor = pool.take().expect("a free frame");
    // SAFETY: as in `filled`.
    let mut frame = unsafe { region.adopt(descriptor) };
    // 4096 bytes less the XDP program's 256.
    assert_eq!((frame.fill(&[7; 5000]), frame.len()), (3840, 3840));
    assert_eq!((frame.fill(&[8; 10]), frame.bytes()), (10, &[8u8; 10][..]));
}

#[test]
fn a_dropped_frame_comes_home_from_any_thread() {
    let (mut region, mut pool) = umem(8);
    let frames: Vec<_> = (0..8).map(|n| filled(&mut region, &mut pool, &[n], false)).collect();
    assert!(region.take_lost().is_empty());
    std::thread::spawn(move || drop(frames)).join().expect("no panic");
    let lost = region.take_lost();
    assert_eq!(lost.len(), 8);
    lost.into_iter().for_each(|descriptor| pool.recycled(descriptor));
    assert_eq!(pool.account().pool, 8);
}

#[test]
fn a_frame_outlives_its_region_and_belongs_to_no_other() {
    let (mut region, mut pool) = umem(4);
    let (mut other, _) = umem(4);
    let first = filled(&mut region, &mut pool, b"first", false);
    let second = filled(&mut region, &mut pool, b"second", false);
    let first = other.surrender(first).expect_err("not its own");
    drop(filled(&mut region, &mut pool, b"lost before", false));
    drop(region);
    assert_eq!((first.bytes(), second.bytes()), (&b"first"[..], &b"second"[..]));
    drop(first);
    assert_eq!(second.bytes(), b"second");
}

#[test]
fn chains_become_packets_across_bursts() {
    let (mut region, mut pool) = umem(16);
    let mut assembler = Assembler::default();
    let mut push = |bytes: &[u8], continued| assembler.push(filled(&mut region, &mut pool, bytes, continued));
    assert!(matches!(push(b"one", false), Assembled::Packet(p) if p.len() == 3 && !p.is_multi_buffer()));
    assert!(matches!(push(b"aa", true), Assembled::Incomplete));
    assert!(matches!(push(b"bb", true), Assembled::Incomplete));
    let Assembled::Packet(packet) = push(b"c", false) else {
        panic!("the packet is complete")
    };
    let mut bytes = vec![1, 2, 3];
    packet.copy_into(&mut bytes);
    assert_eq!(
        (bytes.as_slice(), packet.len(), packet.frames(), packet.head()),
        (&b"aabbc"[..], 5, 3, &b"aa"[..])
    );
    assert!(matches!(push(b"two", false), Assembled::Packet(p) if p.frames() == 1));
}

#[test]
fn a_chain_that_never_ends_is_bounded() {
    let (mut region, mut pool) = umem(32);
    let mut assembler = Assembler::default();
    let mut push = |continued| assembler.push(filled(&mut region, &mut pool, b"x", continued));
    for _ in 0..MAX_FRAMES {
        assert!(matches!(push(true), Assembled::Incomplete));
    }
    assert!(matches!(push(true), Assembled::TooLong(packet, _) if packet.frames() == MAX_FRAMES));
    assert!(matches!(push(true), Assembled::Skipped(_)));
    assert!(
        matches!(push(false), Assembled::Skipped(_)),
        "the end of the chain belongs to it"
    );
    assert!(matches!(push(false), Assembled::Packet(p) if p.frames() == 1));
}

#[test]
fn an_abandoned_chain_is_skipped_to_its_end() {
    let (mut region, mut pool) = umem(8);
    let mut assembler = Assembler::default();
    assert!(assembler.abandon().is_none());
    let mut frame = |continued| filled(&mut region, &mut pool, b"x", continued);
    assert!(
        matches!(assembler.push(frame(false)), Assembled::Packet(_)),
        "nothing was under way to be skipped"
    );
    assert!(matches!(assembler.push(frame(true)), Assembled::Incomplete));
    assert_eq!(assembler.abandon().map(|packet: Packet| packet.frames()), Some(1));
    assert!(matches!(assembler.push(frame(true)), Assembled::Skipped(_)));
    assert!(matches!(assembler.push(frame(false)), Assembled::Skipped(_)));
    assert!(matches!(assembler.push(frame(false)), Assembled::Packet(_)));
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "is not where it is taken from")]
fn the_books_refuse_a_frame_that_is_elsewhere() {
    let mut pool = Pool::new(vec![FrameDesc::default(); 1], 4096);
    pool.filled(1);
    // It is in the fill ring: nobody can have got it to send.
    pool.completed(FrameDesc::default());
}

#[test]
fn the_books_add_up_along_a_frames_whole_way() {
    let mut pool = Pool::new(vec![FrameDesc::default(); 1], 4096);
    let frame = FrameDesc::default();
    let at = |pool: &Pool| {
        let account = pool.account();
        assert!(account.is_balanced(), "{account:?}");
        (account.pool, account.fill, account.receive, account.transmit)
    };
    assert_eq!(at(&pool), (1, 0, 0, 0));
    assert_eq!((pool.top(0).len(), pool.top(9).len()), (0, 1));
    pool.filled(1);
    assert_eq!(at(&pool), (0, 1, 0, 0));
    assert!(!pool.received(&[frame]), "one frame, one packet");
    assert_eq!(at(&pool), (0, 0, 1, 0));
    pool.staged(&frame);
    assert_eq!(at(&pool), (0, 0, 0, 1));
    assert_eq!(
        pool.vacant(9).len(),
        1,
        "there is room for those that are out, and for no more"
    );
    pool.vacant(1)[0] = frame;
    pool.sent(1);
    assert_eq!(at(&pool), (1, 0, 0, 0));
    assert!(pool.vacant(1).is_empty());
    assert!(pool.take().is_some() && pool.take().is_none());
    pool.recycled(frame);
    assert_eq!(at(&pool), (1, 0, 0, 0));
}
