/* What src/vp8/sys.rs needs of libvpx. The ABI version is an expression of macros that bindgen cannot read. */
#include <vpx/vp8cx.h>
#include <vpx/vpx_encoder.h>

static const int KITE_VPX_ENCODER_ABI_VERSION = VPX_ENCODER_ABI_VERSION;
static const long KITE_VPX_EFLAG_FORCE_KF = VPX_EFLAG_FORCE_KF;
static const unsigned int KITE_VPX_FRAME_IS_KEY = VPX_FRAME_IS_KEY;
static const unsigned long KITE_VPX_DL_REALTIME = VPX_DL_REALTIME;
