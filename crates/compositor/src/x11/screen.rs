//! The size of Xvfb's screen, by RandR.

use media::Size;
use x11rb::protocol::randr::{ConnectionExt as _, ModeInfo, Rotation};
use x11rb::protocol::xproto::Window;
use x11rb::rust_connection::RustConnection;

use super::wm::WmError;

/// Millimetres that a pixel is said to have, as thousandths: 96 dots an inch.
const MICROMETRES_PER_PIXEL: u32 = 265;

/// Gives the screen another size, up to the one that it was started with.
pub(super) fn resize(connection: &RustConnection, root: Window, size: Size) -> Result<(), WmError> {
    connection.randr_query_version(1, 3)?.reply()?;
    let resources = connection.randr_get_screen_resources_current(root)?.reply()?;
    let (Some(crtc), Some(output)) = (resources.crtcs.first().copied(), resources.outputs.first().copied()) else {
        return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "the screen has no output").into());
    };
    let (width, height) = (size.width() as u16, size.height() as u16);
    let known = resources.modes.iter().find(|mode| (mode.width, mode.height) == (width, height));
    let mode = match known {
        Some(mode) => mode.id,
        None => {
            let name = size.to_string();
            let info = ModeInfo { width, height, name_len: name.len() as u16, ..ModeInfo::default() };
            let mode = connection.randr_create_mode(root, info, name.as_bytes())?.reply()?.mode;
            connection.randr_add_output_mode(output, mode)?.check()?;
            mode
        }
    };
    // Off first: the screen may not become smaller than what it shows.
    let now = x11rb::CURRENT_TIME;
    let stamp = resources.config_timestamp;
    let upright = Rotation::ROTATE0;
    connection.randr_set_crtc_config(crtc, now, stamp, 0, 0, x11rb::NONE, upright, &[])?.reply()?;
    let millimetres = |pixels: u32| pixels * MICROMETRES_PER_PIXEL / 1000;
    let (wide, high) = (millimetres(size.width()), millimetres(size.height()));
    connection.randr_set_screen_size(root, width, height, wide, high)?.check()?;
    connection.randr_set_crtc_config(crtc, now, stamp, 0, 0, mode, upright, &[output])?.reply()?;
    Ok(())
}
