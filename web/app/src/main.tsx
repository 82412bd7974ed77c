//! Kite's portal: the catalogue and the play page, over the SDK.

import { Api } from "@kite-cloud/sdk";
import { render } from "preact";
import { CataloguePage } from "./catalogue.tsx";
import { GamePage } from "./game.tsx";
import { Message } from "./message.tsx";
import { PlaysPage } from "./plays.tsx";
import { useRoute } from "./route.ts";
import { SavesPage } from "./saves.tsx";
import "./style.css";

const api = new Api();

function Portal() {
  const route = useRoute();
  switch (route.name) {
    case "catalogue":
      return <CataloguePage api={api} />;
    case "game":
      return <GamePage key={route.app} api={api} name={route.app} query={route.query} />;
    case "plays":
      return <PlaysPage api={api} />;
    case "saves":
      return <SavesPage key={route.app} api={api} app={route.app} />;
    case "unknown":
      return <Message title="There is nothing here" text="The address may be mistyped." home />;
  }
}

const element = document.getElementById("app");
if (element !== null) render(<Portal />, element);
