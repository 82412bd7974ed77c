//! A catalogue like the one of a first installation, and one more app without a picture, for touch screens.

import type { App } from "@kite-cloud/sdk";

const spec = {
  min: { width: 320, height: 200, frames_per_second: 30 },
  max: { width: 1920, height: 1080, frames_per_second: 60 },
  default: { width: 1280, height: 720, frames_per_second: 60 },
};

function app(name: string, title: string, summary: string, more: Partial<App> = {}): App {
  return {
    name,
    title,
    summary,
    picture: `/${name}/picture.jpg`,
    display: "x11",
    input: { keyboard: true, mouse: "auto", gamepads: 1, keys: {}, touch: { mode: "pointer" } },
    spec,
    class: "standard",
    ...more,
  };
}

const padGame = app("pad-game", "Pad Game", "A game for thumbs, to see the controls on a touch screen.", {
  input: { keyboard: true, mouse: "auto", gamepads: 1, keys: {}, touch: { mode: "pad" } },
});
const { picture: _, ...padGameWithoutPicture } = padGame;

export const APPS: readonly App[] = [
  app(
    "armagetronad",
    "Armagetron Advanced",
    "Light cycles in 3D: do not hit a wall, make the others hit yours. Arrow keys turn, V brakes.",
  ),
  app(
    "chocolate-doom",
    "Doom: FreeDM",
    "The classic shooter's engine with free levels. Arrows or WASD move, the mouse turns, Ctrl or the left button fires.",
  ),
  app(
    "extremetuxracer",
    "Extreme Tux Racer",
    "Race a penguin down snowy mountains. Arrow keys steer, brake and paddle, E jumps, Enter chooses in the menus.",
  ),
  padGameWithoutPicture,
];
