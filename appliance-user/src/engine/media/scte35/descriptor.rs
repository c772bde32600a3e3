//! Splice descriptors (SCTE 35, 10).

use super::Error;
use super::reader::Reader;

/// identifier of the standard's own descriptors.
const CUEI: [u8; 4] = *b"CUEI";

/// A splice_descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// avail_descriptor.
    Avail {
        /// provider_avail_id.
        provider_avail_id: u32,
    },
    /// DTMF_descriptor.
    Dtmf {
        /// Tenths of a second before the splice point.
        preroll: u8,
        /// DTMF_char: what is to be dialled.
        digits: Box<[u8]>,
    },
    /// segmentation_descriptor.
    Segmentation(Box<Segmentation>),
    /// time_descriptor.
    Time {
        /// TAI_seconds since 1970, 48 bits.
        tai_seconds: u64,
        /// TAI_ns.
        tai_nanoseconds: u32,
        /// UTC_offset: seconds to take from TAI.
        utc_offset: u16,
    },
    /// audio_descriptor.
    Audio(Vec<AudioComponent>),
    /// Any other, by its tag and identifier: private, or of a later edition.
    Other {
        /// splice_descriptor_tag.
        tag: u8,
        /// identifier.
        identifier: [u8; 4],
        /// The rest.
        bytes: Box<[u8]>,
    },
}

/// A component of an audio_descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioComponent {
    /// component_tag.
    pub tag: u8,
    /// ISO 639-2 code.
    pub language: [u8; 3],
    /// Bit_Stream_Mode (ATSC A/52).
    pub bit_stream_mode: u8,
    /// Num_Channels (ATSC A/52).
    pub channels: u8,
    /// Full_Srvc_Audio.
    pub full_service: bool,
}

/// A segmentation_descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// segmentation_event_id.
    pub event_id: u32,
    /// What it is; `None` where segmentation_event_cancel_indicator takes the event back.
    pub detail: Option<SegmentationDetail>,
}

/// A segmentation that is not taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentationDetail {
    /// What may be done with it; `None` where delivery_not_restricted_flag is set.
    pub delivery: Option<Delivery>,
    /// component_tag and pts_offset, where it is not of the whole programme.
    pub components: Option<Vec<(u8, u64)>>,
    /// segmentation_duration, 90 kHz, 40 bits.
    pub duration: Option<u64>,
    /// segmentation_upid_type.
    pub upid_type: u8,
    /// segmentation_upid as it stands.
    pub upid: Box<[u8]>,
    /// segmentation_type_id; [`segmentation_name`] names it.
    pub type_id: u8,
    /// segment_num.
    pub segment: u8,
    /// segments_expected.
    pub segments_expected: u8,
    /// sub_segment_num and sub_segments_expected, where they are there.
    pub sub_segment: Option<(u8, u8)>,
}

/// Delivery restrictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// web_delivery_allowed_flag.
    pub web_allowed: bool,
    /// no_regional_blackout_flag.
    pub no_regional_blackout: bool,
    /// archive_allowed_flag.
    pub archive_allowed: bool,
    /// device_restrictions; 3 for none.
    pub device_restrictions: u8,
}

/// Reads the next descriptor of the loop.
pub(super) fn read(descriptors: &mut Reader<'_>) -> Result<Descriptor, Error> {
    let [tag, length] = descriptors.array("descriptor_length")?;
    let mut body = Reader::new(descriptors.slice(length.into(), "splice_descriptor")?);
    let identifier = body.array("identifier")?;
    // Bytes after the known fields are of later editions.
    Ok(match (identifier, tag) {
        (CUEI, 0x00) => Descriptor::Avail {
            provider_avail_id: body.u32("provider_avail_id")?,
        },
        (CUEI, 0x01) => {
            let [preroll, count] = body.array("dtmf_count")?;
            let digits = body.slice(usize::from(count >> 5), "DTMF_char")?.into();
            Descriptor::Dtmf { preroll, digits }
        }
        (CUEI, 0x02) => Descriptor::Segmentation(Box::new(segmentation(&mut body)?)),
        (CUEI, 0x03) => {
            let [s0, s1, s2, s3, s4, s5] = body.array("TAI_seconds")?;
            Descriptor::Time {
                tai_seconds: u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5]),
                tai_nanoseconds: body.u32("TAI_ns")?,
                utc_offset: body.u16("UTC_offset")?,
            }
        }
        (CUEI, 0x04) => audio(&mut body)?,
        _ => Descriptor::Other {
            tag,
            identifier,
            bytes: body.rest().into(),
        },
    })
}

fn segmentation(body: &mut Reader<'_>) -> Result<Segmentation, Error> {
    let event_id = body.u32("segmentation_event_id")?;
    let cancelled = body.u8("segmentation_event_cancel_indicator")? & 0x80 != 0;
    Ok(Segmentation {
        event_id,
        detail: if cancelled { None } else { Some(detail(body)?) },
    })
}

fn detail(body: &mut Reader<'_>) -> Result<SegmentationDetail, Error> {
    let flags = body.u8("program_segmentation_flag")?;
    let delivery = (flags & 0x20 == 0).then_some(Delivery {
        web_allowed: flags & 0x10 != 0,
        no_regional_blackout: flags & 0x08 != 0,
        archive_allowed: flags & 0x04 != 0,
        device_restrictions: flags & 0x03,
    });
    let components = (flags & 0x80 == 0).then(|| offsets(body)).transpose()?;
    let mut duration = None;
    if flags & 0x40 != 0 {
        let [d0, d1, d2, d3, d4] = body.array("segmentation_duration")?;
        duration = Some(u64::from_be_bytes([0, 0, 0, d0, d1, d2, d3, d4]));
    }
    let [upid_type, length] = body.array("segmentation_upid_length")?;
    let upid = body.slice(length.into(), "segmentation_upid")?.into();
    let [type_id, segment, segments_expected] = body.array("segmentation_type_id")?;
    // Only some types have them, more with each edition, and old senders leave them out: they are there if there is room.
    let sub_segment = match has_sub_segments(type_id) && body.left() >= 2 {
        true => Some(body.array("sub_segment_num")?.into()),
        false => None,
    };
    Ok(SegmentationDetail {
        delivery,
        components,
        duration,
        upid_type,
        upid,
        type_id,
        segment,
        segments_expected,
        sub_segment,
    })
}

fn offsets(body: &mut Reader<'_>) -> Result<Vec<(u8, u64)>, Error> {
    let mut components = Vec::new();
    for _ in 0..body.u8("component_count")? {
        let tag = body.u8("component_tag")?;
        let (_, offset) = body.time("pts_offset")?;
        components.push((tag, offset));
    }
    Ok(components)
}

fn audio(body: &mut Reader<'_>) -> Result<Descriptor, Error> {
    let count = body.u8("audio_count")? >> 4;
    let mut components = Vec::new();
    for _ in 0..count {
        let [tag, l0, l1, l2, modes] = body.array("audio_component")?;
        components.push(AudioComponent {
            tag,
            language: [l0, l1, l2],
            bit_stream_mode: modes >> 5,
            channels: modes >> 1 & 0x0f,
            full_service: modes & 1 != 0,
        });
    }
    Ok(Descriptor::Audio(components))
}

/// Provider and distributor advertisements, placement opportunities and their overlays, and advertisement blocks: the starts.
const fn has_sub_segments(type_id: u8) -> bool {
    matches!(type_id, 0x30 | 0x32 | 0x34 | 0x36 | 0x38 | 0x3a | 0x44 | 0x46)
}

/// What a segmentation_type_id means (Table 23); `reserved` for what has no meaning yet.
pub const fn segmentation_name(type_id: u8) -> &'static str {
    match type_id {
        0x00 => "not-indicated",
        0x01 => "content-identification",
        0x02 => "call-ad-server",
        0x10 => "program-start",
        0x11 => "program-end",
        0x12 => "program-early-termination",
        0x13 => "program-breakaway",
        0x14 => "program-resumption",
        0x15 => "program-runover-planned",
        0x16 => "program-runover-unplanned",
        0x17 => "program-overlap-start",
        0x18 => "program-blackout-override",
        0x19 => "program-join",
        0x20 => "chapter-start",
        0x21 => "chapter-end",
        0x22 => "break-start",
        0x23 => "break-end",
        0x24 => "opening-credit-start",
        0x25 => "opening-credit-end",
        0x26 => "closing-credit-start",
        0x27 => "closing-credit-end",
        0x30 => "provider-advertisement-start",
        0x31 => "provider-advertisement-end",
        0x32 => "distributor-advertisement-start",
        0x33 => "distributor-advertisement-end",
        0x34 => "provider-placement-opportunity-start",
        0x35 => "provider-placement-opportunity-end",
        0x36 => "distributor-placement-opportunity-start",
        0x37 => "distributor-placement-opportunity-end",
        0x38 => "provider-overlay-placement-opportunity-start",
        0x39 => "provider-overlay-placement-opportunity-end",
        0x3a => "distributor-overlay-placement-opportunity-start",
        0x3b => "distributor-overlay-placement-opportunity-end",
        0x3c => "provider-promo-start",
        0x3d => "provider-promo-end",
        0x3e => "distributor-promo-start",
        0x3f => "distributor-promo-end",
        0x40 => "unscheduled-event-start",
        0x41 => "unscheduled-event-end",
        0x42 => "alternate-content-opportunity-start",
        0x43 => "alternate-content-opportunity-end",
        0x44 => "provider-ad-block-start",
        0x45 => "provider-ad-block-end",
        0x46 => "distributor-ad-block-start",
        0x47 => "distributor-ad-block-end",
        0x50 => "network-start",
        0x51 => "network-end",
        _ => "reserved",
    }
}
