//! From an offer to an answer: what the engine is configured for, and which sections and formats were agreed on.

use std::time::Instant;

use media::VideoCodec;
use str0m::change::SdpOffer;
use str0m::format::Codec;
use str0m::media::{Mid, Pt};
use str0m::net::TcpType;
use str0m::rtp::Extension;
use str0m::{Candidate, Rtc, RtcConfig, RtcError};

use crate::offer::{Offer, OfferError};
use crate::peer::{ESTIMATE_INTERVAL, engine_rate};
use crate::rate::RateControl;
use crate::settings::PeerSettings;

/// Bytes waiting in both data channels. Too few refuses a clipboard of the largest size, more is latency.
const CHANNEL_BUFFER: usize = 2 * wire::MAX_MESSAGE_BYTES;

/// The agreed video section.
#[derive(Debug)]
pub(crate) struct Video {
    pub(crate) mid: Mid,
    pub(crate) pt: Pt,
    pub(crate) codec: VideoCodec,
    pub(crate) zero: Instant,
    /// 90 kHz ticks since `zero` of the last frame.
    pub(crate) last_ticks: Option<u64>,
    /// True until the first key frame of a connection.
    pub(crate) needs_key: bool,
}

/// The agreed audio section.
#[derive(Debug)]
pub(crate) struct Audio {
    pub(crate) mid: Mid,
    pub(crate) pt: Pt,
    pub(crate) zero: Instant,
    /// Samples since `zero` at which the next packet begins.
    pub(crate) next: Option<u64>,
}

fn engine_codec(codec: VideoCodec) -> Codec {
    match codec {
        VideoCodec::H264 => Codec::H264,
        VideoCodec::Vp8 => Codec::Vp8,
        VideoCodec::Hevc => Codec::H265,
        VideoCodec::Av1 => Codec::Av1,
    }
}

fn codec_name(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::H264 => "H264 with packetization-mode=1",
        VideoCodec::Vp8 => "VP8",
        VideoCodec::Hevc => "H265",
        VideoCodec::Av1 => "AV1",
    }
}

fn configure(settings: &PeerSettings, now: Instant) -> RtcConfig {
    let estimate = RateControl::new(settings.bitrate.ordered(), true, now).initial_estimate();
    let mut config = RtcConfig::new()
        .set_ice_lite(true)
        .clear_codecs()
        .enable_opus(true, false)
        .set_extension(7, Extension::PlayoutDelay)
        .enable_bwe(Some(engine_rate(estimate)))
        // The only way to see transport-wide feedback, which our rate control needs. It copies each packet once: 0.1 % of a core.
        .enable_raw_packets(true)
        .set_stats_interval(Some(ESTIMATE_INTERVAL))
        .set_sctp_max_message_size(wire::MAX_MESSAGE_BYTES as u32)
        .set_sctp_max_buffered_amount(CHANNEL_BUFFER);
    for codec in &settings.prefer {
        match codec {
            VideoCodec::H264 => {
                // Packetization mode 1 only: mode 0 forbids fragments, and a frame is larger than a packet.
                let codecs = config.codec_config();
                for (pt, resend, profile) in
                    [(108, 109, 0x42e01f), (127, 121, 0x42001f), (123, 119, 0x4d001f), (114, 115, 0x64001f)]
                {
                    codecs.add_h264(Pt::from(pt), Some(Pt::from(resend)), true, profile);
                }
            }
            VideoCodec::Vp8 => config = config.enable_vp8(true),
            VideoCodec::Hevc => config = config.enable_h265(true),
            VideoCodec::Av1 => config = config.enable_av1(true),
        }
    }
    config
}

pub(crate) fn negotiate(offer: &Offer, settings: &PeerSettings, now: Instant) -> Result<(Rtc, String), OfferError> {
    let refused = |error: RtcError| OfferError::Refused(error.to_string());
    let parsed = SdpOffer::from_sdp_string(&offer.sdp).map_err(|error| OfferError::NotSdp(error.to_string()))?;
    let mut rtc = configure(settings, now).build(now);
    for address in &settings.candidates {
        add_candidate(&mut rtc, Candidate::host(*address, "udp"));
    }
    for address in &settings.tcp_candidates {
        add_candidate(&mut rtc, Candidate::builder().tcp().host(*address).tcptype(TcpType::Passive).build());
    }
    let answer = rtc.sdp_api().accept_offer(parsed).map_err(refused)?;
    Ok((rtc, answer.to_sdp_string()))
}

fn add_candidate<E: std::fmt::Display>(rtc: &mut Rtc, candidate: Result<Candidate, E>) {
    match candidate {
        Ok(candidate) => {
            if rtc.add_local_candidate(candidate).is_none() {
                tracing::warn!("a candidate was ignored: it is redundant");
            }
        }
        Err(error) => tracing::warn!(%error, "a candidate was ignored"),
    }
}

pub(crate) fn find_media(
    rtc: &mut Rtc,
    offer: &Offer,
    settings: &PeerSettings,
    now: Instant,
) -> Result<(Video, Option<Audio>), OfferError> {
    let sending = |rtc: &Rtc, mid: &str| {
        let mid = Mid::from(mid);
        rtc.media(mid).is_some_and(|media| media.direction().is_sending()).then_some(mid)
    };
    let video_mid = sending(rtc, &offer.video_mid).ok_or(OfferError::VideoNotReceived)?;
    let audio_mid = offer.audio_mid.as_deref().and_then(|mid| sending(rtc, mid));
    let chosen = settings.prefer.iter().find_map(|&codec| {
        let writer = rtc.writer(video_mid)?;
        let wanted = engine_codec(codec);
        let pt = writer.payload_params().find(|params| params.spec().codec == wanted)?.pt();
        Some((codec, pt))
    });
    let Some((codec, pt)) = chosen else {
        let names: Vec<&str> = settings.prefer.iter().map(|codec| codec_name(*codec)).collect();
        return Err(OfferError::NoCommonCodec { offered: offer.video_formats.clone(), sendable: names.join(", ") });
    };
    let video = Video { mid: video_mid, pt, codec, zero: now, last_ticks: None, needs_key: true };
    let audio = audio_mid.and_then(|mid| {
        let pt = rtc.writer(mid)?.payload_params().find(|params| params.spec().codec == Codec::Opus)?.pt();
        Some(Audio { mid, pt, zero: now, next: None })
    });
    Ok((video, audio))
}
