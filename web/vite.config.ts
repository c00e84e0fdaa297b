import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: process.env.PORTMASTER_WEB ?? "../target/web",
    emptyOutDir: true,
    target: "es2022",
    // one script, one sheet: no request that could be saved, and nothing inline that the policy would refuse
    modulePreload: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  // with a gateway on this host whose `origins` has http://localhost:5173
  server: { proxy: { "^/(portmaster\\.|session)": "http://127.0.0.1:817" } },
});
