//! Bodies of the REST API that the SDK and the portal use, from the types that are generated out of the OpenAPI document.

import type { components } from "./openapi.generated.js";

type Schemas = components["schemas"];

export type App = Schemas["App"];
export type AppList = Schemas["AppList"];
export type ButtonBinding = Schemas["ButtonBinding"];
export type CreatedPlayer = Schemas["CreatedPlayer"];
export type CreatedSession = Schemas["CreatedSession"];
export type CreateSession = Schemas["CreateSession"];
export type InputProfile = Schemas["InputProfile"];
export type LinkMessage = Schemas["LinkMessage"];
export type LinkRequest = Schemas["LinkRequest"];
export type Party = Schemas["Party"];
export type Play = Schemas["Play"];
export type PlayList = Schemas["PlayList"];
export type QueuePlace = Schemas["QueuePlace"];
export type PlayerIdentity = Schemas["Player"];
export type Problem = Schemas["Problem"];
export type SaveList = Schemas["SaveList"];
export type SaveVersion = Schemas["SaveVersion"];
export type Session = Schemas["Session"];
export type SessionState = Schemas["SessionState"];
export type SiteList = Schemas["SiteList"];
export type SiteProbe = Schemas["SiteProbe"];
export type SpecRange = Schemas["SpecRange"];
export type StickBinding = Schemas["StickBinding"];
export type StreamSpec = Schemas["StreamSpec"];
export type TouchControl = Schemas["TouchControl"];
export type TouchPlace = Schemas["TouchPlace"];
export type WaitEstimate = Schemas["WaitEstimate"];
