//! Threads that can wait give way to those that packets wait for.

use rustix::process::{getpriority_process, setpriority_process};

/// The nice value of a thread that can wait. On a core that a worker never leaves, a thread of this one gets a tenth of the
/// time (the scheduler's weights are 110 to 1024): too little to make a worker late, and enough to get on whatever the load,
/// which an idle thread would not, and a batch thread would not give way at all.
const NICE: i32 = 10;

/// Lowers the priority of the calling thread, and of those that it starts. Needs no privilege; one that is lower already stays.
pub(super) fn give_way() {
    // To Linux a priority is a thread's, and no process id means the calling thread.
    let lowered = getpriority_process(None).and_then(|nice| {
        if nice < NICE {
            setpriority_process(None, NICE)
        } else {
            Ok(())
        }
    });
    if let Err(error) = lowered {
        tracing::warn!(%error, "a thread that can wait keeps its priority");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::thread;

    use super::*;

    /// The nice value of the calling thread as the kernel shows it: the 19th field, the 17th after the name.
    pub(crate) fn nice() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("the thread's figures");
        let fields = stat.rsplit_once(')').expect("a name").1;
        fields
            .split_whitespace()
            .nth(16)
            .and_then(|nice| nice.parse().ok())
            .expect("a number")
    }

    #[test]
    fn a_thread_gives_way_with_those_it_starts_and_with_no_other() {
        let before = nice();
        let (own, child) = thread::spawn(|| {
            give_way();
            (nice(), thread::spawn(nice).join().expect("it ends"))
        })
        .join()
        .expect("it ends");
        assert_eq!((own, child), (NICE.max(before), NICE.max(before)));
        assert_eq!(nice(), before, "another thread");
        thread::spawn(move || {
            give_way();
            give_way();
            assert_eq!(nice(), NICE.max(before), "twice");
        })
        .join()
        .expect("it ends");
    }
}
