//! Splice commands (SCTE 35, 9.7).

use super::Error;
use super::reader::Reader;

/// What a splice section wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// splice_null: nothing; shows that the path is alive, or carries descriptors.
    Null,
    /// splice_schedule: splices at times of the day.
    Schedule(Vec<Schedule>),
    /// splice_insert.
    Insert(Insert),
    /// time_signal: the time to which the descriptors refer.
    TimeSignal(SpliceTime),
    /// bandwidth_reservation: nothing.
    BandwidthReservation,
    /// private_command.
    Private {
        /// Registered owner of the command.
        identifier: u32,
        /// What only that owner understands.
        bytes: Box<[u8]>,
    },
    /// Not to be read: the section is encrypted.
    Encrypted,
    /// A splice_command_type that the standard keeps for later.
    Reserved(u8),
}

impl Command {
    /// The name in reports and events.
    pub const fn name(&self) -> &'static str {
        match self {
            Command::Null => "splice-null",
            Command::Schedule(_) => "splice-schedule",
            Command::Insert(_) => "splice-insert",
            Command::TimeSignal(_) => "time-signal",
            Command::BandwidthReservation => "bandwidth-reservation",
            Command::Private { .. } => "private-command",
            Command::Encrypted => "encrypted",
            Command::Reserved(_) => "reserved",
        }
    }
}

/// splice_time: 90 kHz, not yet adjusted; `None` where time_specified_flag is not set.
pub type SpliceTime = Option<u64>;

/// splice_insert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// splice_event_id.
    pub event_id: u32,
    /// What it is; `None` where splice_event_cancel_indicator takes the event back.
    pub detail: Option<InsertDetail>,
}

/// A splice_insert that takes nothing back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsertDetail {
    /// out_of_network_indicator: away from the network, not back to it.
    pub out_of_network: bool,
    /// program_splice_flag: the programme as a whole, not the components listed.
    pub whole_programme: bool,
    /// splice_immediate_flag: at once, without a time.
    pub immediate: bool,
    /// When; `None` where it is immediate, by component or not specified.
    pub time: SpliceTime,
    /// The components, where the splice is not of the whole programme.
    pub components: Vec<ComponentTime>,
    /// break_duration.
    pub duration: Option<BreakDuration>,
    /// unique_program_id.
    pub unique_program_id: u16,
    /// avail_num.
    pub avail_num: u8,
    /// avails_expected.
    pub avails_expected: u8,
}

/// A component's own splice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentTime {
    /// component_tag of its stream_identifier_descriptor.
    pub tag: u8,
    /// When.
    pub time: SpliceTime,
}

/// break_duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakDuration {
    /// auto_return: the end comes without another section.
    pub auto_return: bool,
    /// 90 kHz.
    pub duration: u64,
}

/// An event of a splice_schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// splice_event_id.
    pub event_id: u32,
    /// What it is; `None` where splice_event_cancel_indicator takes the event back.
    pub detail: Option<ScheduleDetail>,
}

/// A scheduled event that is not taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleDetail {
    /// out_of_network_indicator.
    pub out_of_network: bool,
    /// When, of the programme or of each component.
    pub time: ScheduleTime,
    /// break_duration.
    pub duration: Option<BreakDuration>,
    /// unique_program_id.
    pub unique_program_id: u16,
    /// avail_num.
    pub avail_num: u8,
    /// avails_expected.
    pub avails_expected: u8,
}

/// utc_splice_time: seconds since 1980-01-06, leap seconds counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleTime {
    /// Of the whole programme.
    Programme(u32),
    /// component_tag and time of each component.
    Components(Vec<(u8, u32)>),
}

/// Reads a command of `kind`, splice_command_type.
pub(super) fn read(kind: u8, body: &mut Reader<'_>) -> Result<Command, Error> {
    Ok(match kind {
        0x00 => Command::Null,
        0x04 => schedule(body)?,
        0x05 => Command::Insert(insert(body)?),
        0x06 => Command::TimeSignal(splice_time(body)?),
        0x07 => Command::BandwidthReservation,
        0xff => Command::Private {
            identifier: body.u32("private_command.identifier")?,
            bytes: body.rest().into(),
        },
        other => {
            body.rest();
            Command::Reserved(other)
        }
    })
}

fn insert(body: &mut Reader<'_>) -> Result<Insert, Error> {
    let event_id = body.u32("splice_event_id")?;
    let cancelled = body.u8("splice_event_cancel_indicator")? & 0x80 != 0;
    Ok(Insert {
        event_id,
        detail: if cancelled { None } else { Some(insert_detail(body)?) },
    })
}

fn insert_detail(body: &mut Reader<'_>) -> Result<InsertDetail, Error> {
    let flags = body.u8("out_of_network_indicator")?;
    let (whole_programme, immediate) = (flags & 0x40 != 0, flags & 0x10 != 0);
    let mut time = None;
    let mut components = Vec::new();
    if whole_programme && !immediate {
        time = splice_time(body)?;
    }
    if !whole_programme {
        // 255 at most, each a byte at least.
        for _ in 0..body.u8("component_count")? {
            let tag = body.u8("component_tag")?;
            let time = if immediate { None } else { splice_time(body)? };
            components.push(ComponentTime { tag, time });
        }
    }
    Ok(InsertDetail {
        out_of_network: flags & 0x80 != 0,
        whole_programme,
        immediate,
        time,
        components,
        duration: (flags & 0x20 != 0).then(|| break_duration(body)).transpose()?,
        unique_program_id: body.u16("unique_program_id")?,
        avail_num: body.u8("avail_num")?,
        avails_expected: body.u8("avails_expected")?,
    })
}

fn schedule(body: &mut Reader<'_>) -> Result<Command, Error> {
    let count = body.u8("splice_count")?;
    let mut events = Vec::new();
    for _ in 0..count {
        let event_id = body.u32("splice_event_id")?;
        let cancelled = body.u8("splice_event_cancel_indicator")? & 0x80 != 0;
        let detail = if cancelled { None } else { Some(schedule_detail(body)?) };
        events.push(Schedule { event_id, detail });
    }
    Ok(Command::Schedule(events))
}

fn schedule_detail(body: &mut Reader<'_>) -> Result<ScheduleDetail, Error> {
    let flags = body.u8("out_of_network_indicator")?;
    let time = if flags & 0x40 != 0 {
        ScheduleTime::Programme(body.u32("utc_splice_time")?)
    } else {
        let mut components = Vec::new();
        for _ in 0..body.u8("component_count")? {
            components.push((body.u8("component_tag")?, body.u32("utc_splice_time")?));
        }
        ScheduleTime::Components(components)
    };
    Ok(ScheduleDetail {
        out_of_network: flags & 0x80 != 0,
        time,
        duration: (flags & 0x20 != 0).then(|| break_duration(body)).transpose()?,
        unique_program_id: body.u16("unique_program_id")?,
        avail_num: body.u8("avail_num")?,
        avails_expected: body.u8("avails_expected")?,
    })
}

/// One byte where time_specified_flag is not set, five where it is.
fn splice_time(body: &mut Reader<'_>) -> Result<SpliceTime, Error> {
    let mut ahead = *body;
    if ahead.u8("splice_time")? & 0x80 == 0 {
        *body = ahead;
        return Ok(None);
    }
    let (_, time) = body.time("pts_time")?;
    Ok(Some(time))
}

fn break_duration(body: &mut Reader<'_>) -> Result<BreakDuration, Error> {
    let (flags, duration) = body.time("break_duration")?;
    Ok(BreakDuration {
        auto_return: flags & 0x40 != 0,
        duration,
    })
}
