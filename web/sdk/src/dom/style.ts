//! The player's looks. Class names begin with `kite-`; colours and font can be set from outside by custom properties.

const CSS = `
.kite-player { position: relative; overflow: hidden; width: 100%; height: 100%; background: #000; outline: none;
  touch-action: none; user-select: none; -webkit-user-select: none; -webkit-touch-callout: none;
  color: #f2f4f8; font: 15px/1.4 var(--kite-font, system-ui, sans-serif); container-type: size; }
.kite-picture { position: absolute; inset: 0; display: block; width: 100%; height: 100%; object-fit: contain; }
.kite-screen { position: absolute; inset: 0; display: grid; place-content: center; justify-items: center; gap: 14px;
  padding: 24px; text-align: center; background: rgb(8 10 16 / .82); transition: opacity .2s; }
.kite-screen.kite-over-picture { background: rgb(8 10 16 / .45); }
.kite-screen[hidden] { display: none; }
.kite-screen h2 { margin: 0; font-size: 22px; font-weight: 650; }
.kite-screen p { margin: 0; max-width: 46ch; color: #c3c9d6; }
.kite-spinner { width: 40px; height: 40px; border-radius: 50%; border: 3px solid rgb(255 255 255 / .18);
  border-top-color: var(--kite-accent, #6ea8ff); animation: kite-turn .9s linear infinite; }
@keyframes kite-turn { to { rotate: 1turn; } }
@media (prefers-reduced-motion: reduce) { .kite-spinner { animation-duration: 3s; } }
.kite-screen p.kite-queue-place { font-size: 72px; line-height: 1; font-weight: 650; color: inherit; font-variant-numeric: tabular-nums; }
.kite-accept { min-height: 48px; padding: 0 28px; border: 0; border-radius: 12px; font: inherit; font-weight: 600; cursor: pointer;
  background: var(--kite-accent, #6ea8ff); color: #0b0e16; }
.kite-hint { position: absolute; left: 50%; bottom: 8%; translate: -50% 0; padding: 8px 16px; border-radius: 999px;
  background: rgb(8 10 16 / .78); pointer-events: none; white-space: nowrap; }
.kite-hint[hidden], .kite-statistics[hidden] { display: none; }
.kite-statistics { position: absolute; top: 8px; left: 8px; padding: 8px 12px; border-radius: 8px; background: rgb(8 10 16 / .78);
  font: 12px/1.5 ui-monospace, monospace; pointer-events: none; display: grid; grid-template-columns: auto auto; gap: 0 14px; }
.kite-statistics dt { color: #9aa3b5; }
.kite-statistics dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
.kite-pad { position: absolute; inset: 0; container-type: size; pointer-events: none; }
.kite-pad > * { pointer-events: auto; touch-action: none; }
.kite-pad-look { position: absolute; inset: 0; }
.kite-pad-stick, .kite-pad-button { position: absolute; translate: -50% -50%; width: max(44px, var(--size));
  aspect-ratio: 1; border-radius: 50%; border: 1.5px solid rgb(255 255 255 / .32); background: rgb(20 24 34 / .38);
  backdrop-filter: blur(3px); color: rgb(255 255 255 / .86); padding: 0; }
.kite-pad-button { width: auto; min-width: max(44px, var(--size)); height: max(44px, var(--size)); aspect-ratio: auto;
  border-radius: 999px; padding: 0 12px; font: 600 clamp(10px, 3.6cqmin, 17px)/1 var(--kite-font, system-ui, sans-serif); }
.kite-pad-knob { position: absolute; inset: 25%; border-radius: 50%; background: rgb(255 255 255 / .34); }
.kite-pressed { background: rgb(110 168 255 / .45); border-color: rgb(255 255 255 / .7); }
.kite-keyboard-button { position: absolute; right: 12px; bottom: 12px; width: 44px; height: 44px; border-radius: 12px; border: 0;
  background: rgb(20 24 34 / .6); color: inherit; font-size: 20px; }
.kite-keyboard-field { position: absolute; left: 0; bottom: 0; width: 1px; height: 1px; opacity: 0; border: 0; padding: 0; font-size: 16px; }
`;

let sheet: CSSStyleSheet | null = null;

/** Once a document. A constructed sheet needs no exception in a content security policy. */
export function adoptStyle(): void {
  if (sheet === null) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
  }
  if (!document.adoptedStyleSheets.includes(sheet)) document.adoptedStyleSheets.push(sheet);
}
