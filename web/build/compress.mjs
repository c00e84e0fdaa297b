// What the gateway sends to browsers that read it: every file once as it is, once by Brotli, once by gzip. And the licences of
// what is in the bundle.
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const out = process.env.PORTMASTER_WEB ?? fileURLToPath(new URL("../../target/web", import.meta.url));
const modules = fileURLToPath(new URL("../node_modules", import.meta.url));

const bundled = ["preact", "@preact/signals", "@preact/signals-core", "@fontsource-variable/inter"];
const licences = bundled.map((name) => `== ${name} ==\n\n${readFileSync(`${modules}/${name}/LICENSE`, "utf8").trim()}\n`);
writeFileSync(`${out}/licences.txt`, licences.join("\n\n"));

for (const name of readdirSync(out, { recursive: true }).map(String)) {
  const path = `${out}/${name}`;
  if (!/\.(html|js|css|svg|txt)$/.test(name) || !statSync(path).isFile()) continue;
  const plain = readFileSync(path);
  writeFileSync(`${path}.gz`, gzipSync(plain, { level: 9 }));
  const size = { [constants.BROTLI_PARAM_SIZE_HINT]: plain.length };
  writeFileSync(`${path}.br`, brotliCompressSync(plain, { params: size }));
}
