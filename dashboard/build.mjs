// SPDX-License-Identifier: Apache-2.0
// node build.mjs FOLDER: the dashboard as files that volantd serves. Assets are named by their content, so that a
// browser may keep them for good; index.html names the assets.
import * as esbuild from "esbuild";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

const folder = process.argv[2];
if (!folder) throw new Error("usage: node build.mjs FOLDER");
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const result = await esbuild.build({
  entryPoints: ["src/main.tsx", "src/style.css"],
  bundle: true,
  splitting: true,
  format: "esm",
  minify: true,
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  outdir: join(folder, "assets"),
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  metafile: true,
  logLevel: "warning",
});
const entries = {};
for (const [path, output] of Object.entries(result.metafile.outputs)) {
  if (output.entryPoint) entries[output.entryPoint] = `/assets/${basename(path)}`;
  if (output.cssBundle) entries["main.css"] = `/assets/${basename(output.cssBundle)}`;
}
const page = readFileSync("src/index.html", "utf8")
  .replace("MAIN_STYLE", entries["src/style.css"])
  .replace("MAIN_SCRIPT", entries["src/main.tsx"]);
writeFileSync(join(folder, "index.html"), page);
// What is bundled is other people's work: their licences go along.
const bundled = ["preact", "@xterm/xterm", "@xterm/addon-fit"];
const licences = bundled.map((name) => `${name}\n\n${readFileSync(join("node_modules", name, "LICENSE"), "utf8")}`);
writeFileSync(join(folder, "assets", "licences.txt"), licences.join("\n\n"));
copyFileSync("src/icon.svg", join(folder, "assets", "icon.svg"));
