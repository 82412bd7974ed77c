//! Generates the bindings of libavcodec and libvpx from the headers of the system, so that the layout of their
//! structures is right for whichever version is installed. The lists below are all that this crate may call.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};

const AV_FUNCTIONS: &[&str] = &[
    "av_buffer_create",
    "av_buffer_get_ref_count",
    "av_buffer_ref",
    "av_buffer_unref",
    "av_dict_free",
    "av_dict_get",
    "av_dict_set",
    "av_frame_alloc",
    "av_frame_free",
    "av_frame_get_buffer",
    "av_frame_unref",
    "av_hwdevice_ctx_create",
    "av_hwframe_ctx_alloc",
    "av_hwframe_ctx_init",
    "av_hwframe_get_buffer",
    "av_hwframe_transfer_data",
    "av_log_format_line2",
    "av_log_set_callback",
    "av_packet_alloc",
    "av_packet_free",
    "av_packet_unref",
    "av_strerror",
    "avcodec_alloc_context3",
    "avcodec_find_encoder_by_name",
    "avcodec_free_context",
    "avcodec_open2",
    "avcodec_receive_packet",
    "avcodec_send_frame",
];

const AV_TYPES: &[&str] = &["AVHWFramesContext"];

const AV_CONSTANTS: &[&str] = &[
    "KITE_.*",
    "AV_PIX_FMT_(YUV420P|NV12|VAAPI|QSV)",
    "AV_HWDEVICE_TYPE_(VAAPI|QSV)",
    "AV_PICTURE_TYPE_(NONE|I)",
    "AVCOL_RANGE_MPEG",
    "AVCOL_(SPC|PRI|TRC)_(BT709|SMPTE170M)",
];

const VPX_FUNCTIONS: &[&str] = &[
    "vpx_codec_control_",
    "vpx_codec_destroy",
    "vpx_codec_enc_config_default",
    "vpx_codec_enc_config_set",
    "vpx_codec_enc_init_ver",
    "vpx_codec_encode",
    "vpx_codec_err_to_string",
    "vpx_codec_error_detail",
    "vpx_codec_get_cx_data",
    "vpx_codec_vp8_cx",
    "vpx_img_wrap",
];

const VPX_TYPES: &[&str] = &["vp8e_enc_control_id"];

const VPX_CONSTANTS: &[&str] =
    &["KITE_.*", "VPX_CODEC_(OK|CX_FRAME_PKT)", "VPX_IMG_FMT_I420", "VPX_CBR", "VPX_KF_DISABLED"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=native");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // libavcodec 59 is FFmpeg 5.1, libavutil 57 belongs to it.
    let mut av_includes = probe("libavcodec", "59")?;
    av_includes.extend(probe("libavutil", "57")?);
    let vpx_includes = probe("vpx", "1.8")?;
    generate("native/av.h", &av_includes, AV_FUNCTIONS, AV_TYPES, AV_CONSTANTS, &out.join("av.rs"))?;
    generate("native/vpx.h", &vpx_includes, VPX_FUNCTIONS, VPX_TYPES, VPX_CONSTANTS, &out.join("vpx.rs"))
}

/// Links the library and returns the folders of its headers.
fn probe(library: &str, at_least: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let found = pkg_config::Config::new().atleast_version(at_least).probe(library).map_err(|error| {
        format!(
            "{library} {at_least} or later is needed with its headers (Debian: lib{}-dev): {error}",
            library.trim_start_matches("lib")
        )
    })?;
    Ok(found.include_paths)
}

fn generate(
    header: &str,
    includes: &[PathBuf],
    functions: &[&str],
    types: &[&str],
    constants: &[&str],
    to: &Path,
) -> Result<(), Box<dyn Error>> {
    let mut builder = bindgen::Builder::default()
        .header(header)
        .clang_args(includes.iter().map(|folder| format!("-I{}", folder.display())))
        .rust_edition(bindgen::RustEdition::Edition2024)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(false)
        .derive_debug(false);
    for name in functions {
        builder = builder.allowlist_function(name);
    }
    for name in types {
        builder = builder.allowlist_type(name);
    }
    for name in constants {
        builder = builder.allowlist_var(name);
    }
    builder.generate()?.write_to_file(to)?;
    Ok(())
}
