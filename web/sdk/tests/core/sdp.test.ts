import { expect, test } from "vitest";
import { withStereo } from "../../src/core/sdp.js";

const offer = (fmtp: string): string =>
  ["v=0", "m=audio 9 UDP/TLS/RTP/SAVPF 111 63", "a=rtpmap:111 opus/48000/2", fmtp, "a=fmtp:63 111/111", ""].join(
    "\r\n",
  );

test("stereo is asked for once, on Opus alone", () => {
  const asked = withStereo(offer("a=fmtp:111 minptime=10;useinbandfec=1"));
  expect(asked).toBe(offer("a=fmtp:111 minptime=10;useinbandfec=1;stereo=1"));
  expect(withStereo(asked)).toBe(asked);
});

test("an offer without Opus stays as it is", () => {
  expect(withStereo("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n")).toBe("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n");
});
