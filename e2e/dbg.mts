import { launchChromium } from "./lib/browser.ts";
import { newDirectory, startKite, probePackage, ROOT } from "./lib/kite.ts";

const app = process.argv[2] ?? "probe-wayland";
const d = newDirectory("kite-dbg-");
probePackage("probe-x11", d); probePackage("probe-wayland", d);
const k = await startKite({games:[d, ROOT+"/games"], config: process.env.KCONF, environment: {KITE_LOG: process.env.KITE_LOG ?? "info"}});
const b = await launchChromium();
const page = await (await b.newContext({viewport:{width:1280,height:720}})).newPage();
page.on("console", m=>console.log("console", m.text())); page.on("pageerror", e=>console.log("error", e.message));
await page.goto(`${k.base}/play/${app}?autostart=1&width=1280&height=720&fps=60`);
for (let i=0;i<Number(process.argv[3] ?? 8);i++){ await page.waitForTimeout(1000); console.log(await page.evaluate(()=>document.querySelector("[data-state]")?.outerHTML.slice(0,300)), JSON.stringify(await page.evaluate(()=>window.kitePlayer?.statistics()))); }
await page.screenshot({path:"/tmp/dbg.png"});
await b.close();
console.log(k.program.output().slice(-6000));
await k.stop().catch(e=>console.log(e.message));
