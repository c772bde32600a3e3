//! Chunks and commands made by hand, cut anywhere, and arbitrary bytes. Against ffmpeg and tshark: `tests/rtmp.rs`.

use proptest::prelude::*;

use super::amf0::Value;
use super::chunk::{COMMAND_AMF0, COMMAND_AMF3, ChunkReader, MAX_CHUNK_STREAMS, Message};
use super::*;

fn text(value: &[u8]) -> Vec<u8> {
    [&[2][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

fn number(value: f64) -> Vec<u8> {
    [&[0][..], &value.to_be_bytes()].concat()
}

/// `connect` with properties as they are given.
pub(in crate::engine) fn connect(properties: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = [text(b"connect"), number(1.0), vec![3]].concat();
    for (key, value) in properties {
        body.extend_from_slice(&(key.len() as u16).to_be_bytes());
        body.extend_from_slice(key.as_bytes());
        body.extend(text(value));
    }
    body.extend_from_slice(&[0, 0, 9]);
    body
}

/// A command about a stream, as encoders send it.
pub(in crate::engine) fn about(command: &str, name: &[u8], kind: Option<&str>) -> Vec<u8> {
    let mut body = [text(command.as_bytes()), number(4.0), vec![5], text(name)].concat();
    body.extend(kind.map(|kind| text(kind.as_bytes())).unwrap_or_default());
    body
}

/// A message in chunks of at most `size` bytes, type 0 and then type 3.
pub(in crate::engine) fn chunked(id: u8, kind: u8, body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = vec![id, 0, 0, 0];
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, 0, 0, 0, 0]);
    for (n, part) in body.chunks(size).enumerate() {
        if n > 0 {
            bytes.push(0xc0 | id);
        }
        bytes.extend_from_slice(part);
    }
    bytes
}

/// C0, C1 and C2.
pub(in crate::engine) fn handshake() -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.extend((0..2 * handshake::BLOCK).map(|n| ((n * 31) >> 3) as u8));
    bytes
}

/// All that an encoder sends before its media.
pub(in crate::engine) fn publication(application: &str, key: &str) -> Vec<u8> {
    let url = format!("rtmp://192.0.2.1/{application}");
    let connect = connect(&[
        ("app", application.as_bytes()),
        ("flashVer", b"FMLE/3.0"),
        ("tcUrl", url.as_bytes()),
    ]);
    [
        handshake(),
        chunked(3, COMMAND_AMF0, &connect, 128),
        chunked(2, 1, &4096u32.to_be_bytes(), 128),
        chunked(3, COMMAND_AMF0, &about("releaseStream", key.as_bytes(), None), 4096),
        chunked(3, COMMAND_AMF0, &about("FCPublish", key.as_bytes(), None), 4096),
        chunked(
            3,
            COMMAND_AMF0,
            &[text(b"createStream"), number(4.0), vec![5]].concat(),
            4096,
        ),
        chunked(4, COMMAND_AMF0, &about("publish", key.as_bytes(), Some("live")), 4096),
    ]
    .concat()
}

fn messages(mut input: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, Error> {
    let mut reader = ChunkReader::default();
    let mut found = Vec::new();
    while let Some((taken, message)) = reader.read(input)? {
        input = &input[taken..];
        found.extend(message.map(|message| (message.kind, message.payload().to_vec())));
    }
    Ok(found)
}

#[test]
fn commands_are_found_behind_a_new_chunk_size() {
    let bytes = publication("live", "secret");
    let found = messages(&bytes[handshake::LENGTH..]).unwrap();
    let named: Vec<_> = found
        .iter()
        .filter_map(|(kind, body)| {
            let message = Message::new(*kind, 0, body.clone());
            match Command::parse(&message).unwrap()? {
                Command::Connect(connect) => Some(String::from_utf8_lossy(connect.application?).into_owned()),
                Command::Stream(command) => Some(format!("{:?}", command.purpose)),
                Command::Other => Some("other".into()),
            }
        })
        .collect();
    assert_eq!(named, ["live", "Announce", "Announce", "other", "Publish"]);
}

#[test]
fn headers_of_every_type_refer_to_the_last_one() {
    let mut bytes = chunked(5, 8, b"abc", 128);
    bytes.extend_from_slice(&[0x45, 0, 0, 1, 0, 0, 2, 9, b'd', b'e']); // type 1: length 2, video
    bytes.extend_from_slice(&[0x85, 0, 0, 1, b'f', b'g']); // type 2: both as before
    bytes.extend_from_slice(&[0xc5, b'h', b'i']); // type 3: another message as before
    let found = messages(&bytes).unwrap();
    let expected: [(u8, &[u8]); 4] = [(8, b"abc"), (9, b"de"), (9, b"fg"), (9, b"hi")];
    assert_eq!(found, expected.map(|(kind, body)| (kind, body.to_vec())));
}

#[test]
fn ids_beyond_63_take_one_or_two_more_bytes() {
    for basic in [&[0x00, 10][..], &[0x01, 10, 0], &[0x01, 10, 1]] {
        let header = [basic, &[0, 0, 0, 0, 0, 1, 20, 0, 0, 0, 0, b'x']].concat();
        assert_eq!(messages(&header).unwrap(), [(20, b"x".to_vec())]);
    }
    // 64 + 10 written both ways is one chunk stream.
    let both = [
        &[0x00, 10, 0, 0, 0, 0, 0, 1, 20, 0, 0, 0, 0, b'x'][..],
        &[0xc1, 10, 0, b'y'],
    ]
    .concat();
    assert_eq!(messages(&both).unwrap().len(), 2);
}

#[test]
fn an_extended_timestamp_is_repeated_in_each_chunk_or_refused() {
    let first = [
        &[3, 0xff, 0xff, 0xff, 0, 0, 130, 20, 0, 0, 0, 0, 1, 0, 0, 0][..],
        &[7; 128],
    ]
    .concat();
    let sound = [&first[..], &[0xc3, 1, 0, 0, 0, 8, 9]].concat();
    assert_eq!(messages(&sound).unwrap().len(), 1);
    let other = [&first[..], &[0xc3, 8, 9, 0, 0, 0, 0]].concat();
    assert_eq!(messages(&other), Err(Error::ExtendedTimestamp(3)));
}

#[test]
fn what_servers_read_differently_is_refused() {
    let half = chunked(3, 20, &[0; 200], 128)[..140].to_vec();
    let interrupted = [&half[..], &chunked(3, 20, b"x", 128)].concat();
    assert_eq!(messages(&interrupted), Err(Error::Interrupted(3)));
    let aborted = [
        &half[..],
        &chunked(2, 2, &3u32.to_be_bytes(), 128),
        &chunked(3, 20, b"x", 128),
    ]
    .concat();
    assert_eq!(
        messages(&aborted),
        Err(Error::Abort(3)),
        "servers differ in what they do then"
    );
    assert_eq!(messages(&[0xc3, 0]), Err(Error::NoHeader(3)));
    for size in [0u32, 0x8000_0000] {
        assert_eq!(
            messages(&chunked(2, 1, &size.to_be_bytes(), 128)),
            Err(Error::ChunkSize(size))
        );
    }
    assert_eq!(messages(&chunked(2, 1, &[0, 1], 128)), Err(Error::ChunkSize(0)));
    assert_eq!(
        messages(&[3, 0, 0, 0, 1, 0, 0, 20, 0, 0, 0, 0]),
        Err(Error::MessageLength(65_536))
    );
    let many: Vec<u8> = (0..=MAX_CHUNK_STREAMS as u8)
        .flat_map(|id| chunked(2 + id, 20, b"", 128))
        .collect();
    assert_eq!(messages(&many), Err(Error::ChunkStreams));
}

#[test]
fn commands_that_could_mean_two_things_are_refused() {
    let parse =
        |kind: u8, body: Vec<u8>| Command::parse(&Message::new(kind, 0, body)).map(|found| format!("{found:?}"));
    let twice = connect(&[("app", b"live"), ("app", b"other")]);
    assert_eq!(parse(COMMAND_AMF0, twice), Err(Error::Property("app")));
    let mut number_as_app = connect(&[]);
    let end = number_as_app.len() - 3;
    number_as_app.splice(end..end, [&[0, 3][..], b"app", &number(1.0)].concat());
    assert_eq!(parse(COMMAND_AMF0, number_as_app), Err(Error::Property("app")));
    assert_eq!(
        parse(COMMAND_AMF0, [text(b"publish"), number(1.0), vec![5, 5]].concat()),
        Err(Error::StreamName)
    );
    assert_eq!(
        parse(COMMAND_AMF0, about("publish", &[b'k'; 1025], None)),
        Err(Error::NameLength(1025))
    );
    assert_eq!(parse(COMMAND_AMF0, number(1.0)), Err(Error::NoName));
    // The form of AMF3 commands: one byte, then AMF0.
    let shown = parse(COMMAND_AMF3, [vec![0], about("publish", b"key", Some("live"))].concat()).unwrap();
    assert!(shown.contains("Publish") && !shown.contains("key"), "{shown}");
}

#[test]
fn the_application_is_read_from_the_url_too() {
    let path = |url: &'static str| {
        let connect = Connect {
            url: Some(url.as_bytes()),
            ..Connect::default()
        };
        connect.application_of_url()
    };
    assert_eq!(path("rtmp://h:1935/live"), Some(&b"live"[..]));
    assert_eq!(path("rtmp://h//live/sub/"), Some(&b"live/sub"[..]));
    assert_eq!(path("rtmp://h/"), None);
    assert_eq!(path("rtmp://h"), None);
    assert_eq!(path("live"), None);
}

proptest! {
    #[test]
    fn messages_are_the_same_however_the_bytes_are_cut(
        bodies in prop::collection::vec((2u8..8, 0u8..30, prop::collection::vec(any::<u8>(), 0..400)), 0..8),
    ) {
        // Messages about the chunk streams themselves would change what follows.
        let bodies: Vec<_> = bodies.into_iter().map(|(id, kind, body)| (id, kind.max(3), body)).collect();
        let bytes: Vec<u8> = bodies.iter().flat_map(|(id, kind, body)| chunked(*id, *kind, body, 128)).collect();
        let expected: Vec<_> = bodies.iter().map(|(_, kind, body)| (*kind, body.clone())).collect();
        prop_assert_eq!(messages(&bytes).unwrap(), expected.clone());
        // Byte by byte: what is not whole is not taken, and asked for again with more.
        let (mut reader, mut at, mut found) = (ChunkReader::default(), 0, Vec::new());
        for end in 0..=bytes.len() {
            while let Some((taken, message)) = reader.read(&bytes[at..end]).unwrap() {
                at += taken;
                found.extend(message.map(|message| (message.kind, message.payload().to_vec())));
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn arbitrary_bytes_end_and_hold_no_more_than_they_are(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (mut reader, mut rest) = (ChunkReader::default(), &bytes[..]);
        while let Ok(Some((taken, message))) = reader.read(rest) {
            prop_assert!(taken > 0);
            rest = &rest[taken..];
            if let Some(message) = message {
                let _ = Command::parse(&message);
            }
        }
        prop_assert!(reader.memory() <= 4 * bytes.len() + 4096);
        for kind in [COMMAND_AMF0, COMMAND_AMF3] {
            let _ = Command::parse(&Message::new(kind, 0, bytes.clone()));
        }
    }

    #[test]
    fn a_mutated_command_never_panics(place in 0usize..90, byte in any::<u8>()) {
        let mut body = about("publish", b"key", Some("live"));
        if let Some(target) = body.get_mut(place) {
            *target = byte;
        }
        let _ = Command::parse(&Message::new(COMMAND_AMF0, 0, body));
    }
}

#[test]
fn values_show_their_text_only_where_they_have_one() {
    assert_eq!(
        (Value::String(b"a").text(), Value::Nothing.text()),
        (Some(&b"a"[..]), None)
    );
}
