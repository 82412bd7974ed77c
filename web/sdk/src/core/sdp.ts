/** What an offer must say that browsers do not say by themselves. */

/** Asks for stereo: without `stereo=1` on Opus, Chromium plays both channels as one (RFC 7587, section 6.1). */
export function withStereo(sdp: string): string {
  const opus = /^a=rtpmap:(\d+) opus\/48000\/2\r?$/im.exec(sdp)?.[1];
  if (opus === undefined) return sdp;
  const parameters = new RegExp(`^a=fmtp:${opus} (?!.*\\bstereo=)[^\\r\\n]*`, "m");
  return sdp.replace(parameters, "$&;stereo=1");
}
