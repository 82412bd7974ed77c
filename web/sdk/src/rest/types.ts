//! Bodies of the REST API that the SDK and the portal use, by the names of the OpenAPI document.

export interface StreamSpec {
  readonly width: number;
  readonly height: number;
  readonly frames_per_second: number;
}

export interface SpecRange {
  readonly min: StreamSpec;
  readonly max: StreamSpec;
  readonly default: StreamSpec;
}

export interface TouchPlace {
  readonly x: number;
  readonly y: number;
  readonly size: number;
}

export type StickBinding =
  | { readonly keys: { readonly up: string; readonly left: string; readonly down: string; readonly right: string } }
  | { readonly pad: "left" | "right" };

export type ButtonBinding =
  | { readonly key: string }
  | { readonly mouse: "left" | "middle" | "right" }
  | { readonly pad: number };

export type TouchControl =
  | { readonly kind: "stick"; readonly label: string; readonly place: TouchPlace; readonly send: StickBinding }
  | { readonly kind: "button"; readonly label: string; readonly place: TouchPlace; readonly send: ButtonBinding }
  | { readonly kind: "look"; readonly speed: number };

export interface InputProfile {
  readonly keyboard: boolean;
  readonly mouse: "auto" | "absolute" | "relative" | "none";
  readonly gamepads: number;
  readonly keys: Readonly<Record<string, string>>;
  readonly touch: { readonly mode: "pointer" | "direct" | "pad"; readonly controls?: readonly TouchControl[] };
}

export interface App {
  readonly name: string;
  readonly title: string;
  readonly summary: string;
  readonly picture?: string;
  readonly display: "wayland" | "x11" | "xvfb";
  readonly input: InputProfile;
  readonly spec: SpecRange;
}

export interface AppList {
  readonly apps: readonly App[];
}

export interface CreateSession {
  readonly app: string;
  readonly spec?: StreamSpec;
  readonly resizable?: boolean;
}

export type Party = "player" | "game" | "platform" | "operator";

export type SessionState =
  | { readonly state: "reserved" }
  | { readonly state: "preparing"; readonly stage: "streamer" | "game" }
  | { readonly state: "ready"; readonly connect_until: string }
  | { readonly state: "connected"; readonly since: string }
  | { readonly state: "reconnecting"; readonly until: string }
  | { readonly state: "stopping"; readonly reason: string }
  | { readonly state: "ended"; readonly reason: string; readonly party: Party; readonly at: string };

export interface Session {
  readonly id: string;
  readonly app: string;
  readonly spec: StreamSpec;
  readonly state: SessionState;
  readonly sentence: string;
  readonly first_frame: boolean;
  readonly revision: number;
  readonly created_at: string;
  readonly ends_at: string;
}

export interface CreatedSession {
  readonly session: Session;
  readonly token: string;
  readonly token_expires_at: string;
  readonly link: string;
  readonly whep: string;
}

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly remedy: string;
  readonly request_id?: string;
  readonly retry_after_s?: number;
}

export type LinkMessage =
  | { readonly type: "session"; readonly session: Session }
  | { readonly type: "statistics"; readonly statistics: unknown };

export type LinkRequest = { readonly type: "leave" };
