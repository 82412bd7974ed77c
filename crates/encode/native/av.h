/* What src/av/sys.rs needs of libavcodec and libavutil. Macros become constants here, since bindgen cannot read
 * those that are functions. */
#include <libavcodec/avcodec.h>
#include <libavutil/buffer.h>
#include <libavutil/dict.h>
#include <libavutil/error.h>
#include <libavutil/frame.h>
#include <libavutil/hwcontext.h>
#include <libavutil/log.h>

static const int KITE_AVERROR_EAGAIN = AVERROR(EAGAIN);
static const int KITE_AVERROR_EOF = AVERROR_EOF;
static const int KITE_AV_CODEC_FLAG_LOW_DELAY = AV_CODEC_FLAG_LOW_DELAY;
static const int KITE_AV_CODEC_FLAG_CLOSED_GOP = AV_CODEC_FLAG_CLOSED_GOP;
static const int KITE_AV_PKT_FLAG_KEY = AV_PKT_FLAG_KEY;
static const int KITE_AV_BUFFER_FLAG_READONLY = AV_BUFFER_FLAG_READONLY;
static const int KITE_AV_DICT_IGNORE_SUFFIX = AV_DICT_IGNORE_SUFFIX;
static const int KITE_AV_LOG_WARNING = AV_LOG_WARNING;
static const int KITE_FF_THREAD_SLICE = FF_THREAD_SLICE;
