//! `[rule.rtmp]`.

use super::srt::ON_UNVERIFIED;
use super::{plain, protocol_section};
use crate::policy::diagnostic::{At, Collector};
use crate::policy::fields::Fields;
use crate::policy::files::{self, FileUse, SecretKind};
use crate::policy::rule::{Protocol, RtmpRule};
use crate::policy::{schema, value};

pub(super) fn read(
    rule: &Fields<'_, '_>,
    protocol: Option<Protocol>,
    files: &mut Vec<At<FileUse>>,
    out: &mut Collector<'_>,
) -> RtmpRule {
    let Some(rtmp) = protocol_section(rule, "rtmp", &schema::RTMP, protocol, |p| p == Protocol::Rtmp, out) else {
        return RtmpRule::default();
    };
    rtmp.refuse_empty("application", "leave application out to admit every application", out);
    let applications = rtmp.items("application", out, value::glob);
    let key_file = rtmp.value("stream_key_file", out, |v| match v.as_str() {
        Some(text) => files::path(text),
        None => Err(value::expected(
            "a path",
            v,
            "write the path of a file in quotes; the stream keys stand in the file, one a line",
        )),
    });
    files.extend(key_file.map(|path| At {
        span: rtmp.value_span("stream_key_file"),
        value: FileUse {
            path,
            kind: SecretKind::StreamKeys,
        },
    }));
    RtmpRule {
        applications: rtmp.find("application").map(|_| plain(applications)),
        // None may publish until the file is read.
        stream_keys: rtmp.find("stream_key_file").map(|_| Vec::new()),
        on_unverified: rtmp
            .value("on_unverified", out, |v| value::choice(v, &ON_UNVERIFIED))
            .unwrap_or_default(),
    }
}
