//! What a stream's state costs comes out of the allowance.

use super::*;
use crate::engine::judge::incidents::INCIDENT;

#[test]
fn what_the_watch_holds_is_paid_for_and_comes_back() {
    let (allowance, mut outbox) = (Allowance::new(1 << 20), Outbox::default());
    let at = |ms| Timestamp::from_nanos(ms * 1_000_000);
    let rule = Rule::observer();
    let tuple = Tuple::default();
    let mut stream = Stream::new(StreamProtocol::Rtp, &rule, &tuple, Direction::Forward, 1, at(0));
    stream.settle(allowance.grant(), &allowance);
    stream.advance(at(0), (0, Timestamp::default()), &mut outbox);
    let before = allowance.left();
    for ms in 0..100 {
        let at = at(ms * INCIDENT.as_millis() as u64);
        stream.cold.watch.continuity_error(at, 256, false, &mut |_, _| ());
    }
    stream.advance(at(50_000), (0, Timestamp::default()), &mut outbox);
    let held = stream.cold.watch.memory();
    assert!(held > 0);
    assert_eq!(before - allowance.left(), held);
    // Nothing goes wrong any more: the account is given up.
    for seconds in 51..200 {
        stream.advance(at(seconds * 1000), (0, Timestamp::default()), &mut outbox);
    }
    assert!(stream.cold.watch.memory() < held);
    assert_eq!(before - allowance.left(), stream.cold.watch.memory());
    drop(stream);
    assert_eq!(allowance.left(), 1 << 20);
}
