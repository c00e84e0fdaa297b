// Types of every message and method, of the very contracts that the gateway answers by: src/generated/. Not committed, made
// anew by every build: a contract that changes under the page fails the type check.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const root = here("../..");
const out = here("../src/generated");
const roots = [`${root}/api/proto`, `${root}/proto/proto`];

// what the public contracts are made of, and what those import
const files = roots.flatMap((folder) =>
  readdirSync(folder, { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(".proto")),
);

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
execFileSync(
  "protoc",
  [
    ...roots.map((folder) => `--proto_path=${folder}`),
    `--plugin=protoc-gen-es=${here("../node_modules/.bin/protoc-gen-es")}`,
    `--es_out=${out}`,
    "--es_opt=target=ts,json_types=true",
    ...files,
  ],
  { stdio: "inherit" },
);
