//! Steering: the settings, and the way into the socket of the packet's queue while its worker is alive.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, XskMap};
use aya_ebpf::programs::XdpContext;
use tidegate_common::maps::{Active, Admit, Config, Counter, DefaultAction, FailureAction, Heartbeat, MAX_QUEUES};

use crate::bypass;
use crate::counters::Counting;

/// `BPF_F_MMAPABLE`: user space writes settings and beats by plain stores.
const MMAPABLE: u32 = 1 << 10;

#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, MMAPABLE);
#[map]
static HEARTBEATS: Array<Heartbeat> = Array::with_max_entries(MAX_QUEUES, MMAPABLE);
#[map]
static SOCKETS: XskMap = XskMap::with_max_entries(MAX_QUEUES, 0);

/// The settings as they hold for one packet.
pub struct Settings {
    /// UDP port of GENEVE, never 0.
    pub geneve_port: u16,
    /// The policy slot in force.
    pub slot: usize,
    // Raw numbers, made sense of where they are used: the verifier would otherwise follow every combination of them through
    // the whole walk.
    default_action: u8,
    on_failure: u8,
    heartbeat_ns: u64,
}

impl Settings {
    /// What a miss in that slot becomes.
    #[inline(always)]
    pub fn default_action(&self) -> DefaultAction {
        DefaultAction::from_number(self.default_action)
    }

    /// The failure action: the prefix's own, or that of the settings.
    #[inline(always)]
    pub fn on_failure(&self, admit: Admit) -> FailureAction {
        match admit.on_failure() {
            Some(action) => action,
            None => FailureAction::from_number(self.on_failure),
        }
    }
}

/// Reads the settings, the word with the active slot exactly once. `None` while user space has not configured anything.
#[inline(always)]
pub fn settings() -> Option<Settings> {
    let config = CONFIG.get_ptr(0)?;
    // SAFETY: holds because the pointer comes from a lookup of this map and points to a value of this type, aligned to 8 as
    // array values are; user space changes it by stores of whole fields, which volatile reads take as they come.
    let (active, geneve_port, on_failure, defaults, heartbeat_ns) = unsafe {
        (
            Active::from_word((&raw const (*config).active).read_volatile()),
            (&raw const (*config).geneve_port).read_volatile(),
            (&raw const (*config).on_failure).read_volatile(),
            (&raw const (*config).default_action).read_volatile(),
            (&raw const (*config).heartbeat_ns).read_volatile(),
        )
    };
    if geneve_port == 0 {
        return None;
    }
    let [first, second] = defaults;
    let slot = active.slot();
    Some(Settings {
        geneve_port,
        slot,
        default_action: if slot == 0 { first } else { second },
        on_failure,
        heartbeat_ns,
    })
}

/// Gives the packet to the worker of its queue. Returns whether it took it; if not, nothing was changed.
#[inline(always)]
pub fn to_worker(ctx: &XdpContext, settings: &Settings, counting: &mut Counting) -> bool {
    let queue = ctx.rx_queue_index();
    let Some(line) = HEARTBEATS.get_ptr_mut(queue) else {
        return false;
    };
    // The coarse clock costs half of the full one and lags by at most a tick (4 ms at 250 Hz), which the signed comparison
    // takes for a fresh beat; against a limit of 80 ms that is nothing.
    // SAFETY: holds because the helper takes nothing and returns a number.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    // SAFETY: holds because the pointer comes from a lookup of this map and points to a value of this type; the worker stores
    // the beat as one aligned word.
    let beat = unsafe { (&raw const (*line).beat).read_volatile() };
    let fresh = !Heartbeat::is_stale(beat, now, settings.heartbeat_ns);
    if fresh {
        if SOCKETS.redirect(queue, 0).is_ok() {
            bypass::leave(line, counting);
            return true;
        }
        counting.add(Counter::NoSocket);
    }
    bypass::enter(ctx, line, fresh, counting);
    false
}
