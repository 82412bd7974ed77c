//! The trace of a play, as W3C Trace Context writes it. The browser makes its name and exports nothing.

const TRACE_BYTES = 16;
const SPAN_BYTES = 8;

/**
 * A `traceparent` of a new trace from 24 random bytes. `sampled` says whether its spans are wanted: where the installation exports traces,
 * those of a play that is not sampled are left out.
 */
export function traceparent(random: Uint8Array, sampled: boolean): string {
  const trace = hex(random.subarray(0, TRACE_BYTES));
  const span = hex(random.subarray(TRACE_BYTES, TRACE_BYTES + SPAN_BYTES));
  return `00-${trace}-${span}-${sampled ? "01" : "00"}`;
}

/** Zero alone is no id: it becomes one. */
function hex(bytes: Uint8Array): string {
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return /^0*$/.test(digits) ? `${digits.slice(0, -1)}1` : digits;
}
