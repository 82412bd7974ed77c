//! Addresses: `/` is the catalogue, `/play/{app}` a game, `/plays` what was played, `/saves?app={app}` what of it is kept.

import type { StreamSpec } from "@kite-cloud/sdk";
import { useEffect, useState } from "preact/hooks";

export type Route =
  | { readonly name: "catalogue" }
  | { readonly name: "game"; readonly app: string; readonly query: PlayQuery }
  | { readonly name: "plays" }
  /** `app` is `null` for the saves of all games. */
  | { readonly name: "saves"; readonly app: string | null }
  | { readonly name: "unknown" };

/** `?autostart=1&width=1280&height=720&fps=60`: plays at once; a size that is given stays, whatever the window's is. */
export interface PlayQuery {
  readonly autostart: boolean;
  readonly spec: Partial<StreamSpec>;
}

/** Names of apps. */
const APP = /^[a-z0-9-]{1,40}$/;

export function parseRoute(path: string, search: string): Route {
  if (path === "/") return { name: "catalogue" };
  if (/^\/plays\/?$/.test(path)) return { name: "plays" };
  if (/^\/saves\/?$/.test(path)) return { name: "saves", app: appOf(new URLSearchParams(search).get("app")) };
  const app = appOf(/^\/play\/([^/]+)\/?$/.exec(path)?.[1] ?? null);
  return app === null ? { name: "unknown" } : { name: "game", app, query: parseQuery(search) };
}

function appOf(name: string | null): string | null {
  return name !== null && APP.test(name) ? name : null;
}

function parseQuery(search: string): PlayQuery {
  const query = new URLSearchParams(search);
  const number = (name: string): number | null => {
    const text = query.get(name);
    return text !== null && /^\d{1,5}$/.test(text) ? Number(text) : null;
  };
  const [width, height, fps] = [number("width"), number("height"), number("fps")];
  return {
    autostart: query.get("autostart") === "1",
    spec: {
      ...(width === null ? {} : { width }),
      ...(height === null ? {} : { height }),
      ...(fps === null ? {} : { frames_per_second: fps }),
    },
  };
}

/** Goes to another page without loading the portal again. */
export function navigate(path: string): void {
  history.pushState(null, "", path);
  window.dispatchEvent(new PopStateEvent("popstate"));
  window.scrollTo(0, 0);
}

/** For the `onClick` of links: a plain click stays in the portal, others are the browser's. */
export function follow(event: MouseEvent): void {
  const link = event.currentTarget as HTMLAnchorElement;
  if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  navigate(link.pathname + link.search);
}

export function useRoute(): Route {
  const current = (): Route => parseRoute(location.pathname, location.search);
  const [route, setRoute] = useState(current);
  useEffect(() => {
    const changed = (): void => setRoute(current());
    window.addEventListener("popstate", changed);
    return () => window.removeEventListener("popstate", changed);
  }, []);
  return route;
}
