// The web page in Chromium, against the mesh of this network namespace. Arguments: a folder for pictures, a program that connects
// (nc), an address and a TCP port that answers. Prints what holds and what does not; ends with 1 where something does not.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.WEB}/package.json`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [pictures, app, address, port] = process.argv.slice(2);
const HOME = "http://127.0.0.1:817/";
const VIEWS = ["overview", "connections", "dns", "gate17", "rules", "services"];
// a busy machine is slow, and nothing here measures it
const PATIENCE = 30_000;

const data = mkdtempSync(`${pictures}/profile-`);
const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];
const context = await chromium.launchPersistentContext(data, {
  executablePath: "/usr/bin/chromium",
  headless: true,
  viewport: { width: 1400, height: 860 },
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", ...quiet],
});
context.setDefaultTimeout(PATIENCE);
const page = context.pages()[0] ?? (await context.newPage());
const asked = new Set();
const complaints = [];
context.on("request", (request) => asked.add(new URL(request.url()).origin));
page.on("console", (message) => message.type() === "error" && complaints.push(`${message.text()} ${message.location().url}`));
page.on("pageerror", (error) => complaints.push(String(error.stack ?? error)));

let failures = 0;
const holds = (what, is, more = "") => {
  failures += is ? 0 : 1;
  console.log(`${is ? "ok" : "NOT OK"}: ${what} ${more}`);
};
const step = async (what, act) => {
  try {
    await act();
    console.log(`ok: ${what}`);
  } catch (error) {
    holds(what, false, String(error).slice(0, 900));
    await page.screenshot({ path: `${pictures}/failed.png` });
  }
};
const connects = () => spawnSync(app, ["-z", "-w", "3", address, port]).status === 0;
const until = async (what, is) => {
  for (const end = Date.now() + PATIENCE; Date.now() < end; await page.waitForTimeout(100)) if (is()) return;
  throw new Error(`never: ${what}`);
};
const open = async (view) => {
  await page.goto(`${HOME}#/${view}`);
  await page.getByRole("heading", { level: 1 }).or(page.getByRole("main")).first().waitFor();
};
const accessible = async (what) => {
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const told = found.violations.map((rule) => `\n   ${rule.id}: ${rule.nodes.map((node) => node.target).join(", ")}`);
  holds(`nothing for axe to say: ${what}`, told.length === 0, told.join(""));
};
const isInRow = () => page.evaluate(() => document.activeElement?.getAttribute("role") === "row");

const name = app.split("/").pop();
const row = page.getByRole("row").filter({ hasText: name }).first();

async function seen() {
  const policy = (await page.goto(HOME)).headers()["content-security-policy"] ?? "";
  holds("scripts of the gateway alone", policy.includes("default-src 'none'") && policy.includes("script-src 'self'"), policy);
  await page.getByText("Protecting").waitFor();
  await page.waitForTimeout(1000); // it stands, and nothing of this program is in it
  holds("the program connects", connects());
  await page.getByRole("region", { name: "Who talks most" }).getByText(name, { exact: true }).waitFor();
  await open("connections");
  await page.getByRole("navigation", { name: "Programs" }).getByText(name, { exact: true }).waitFor();
  await row.waitFor();
  const text = await row.innerText();
  holds("its connection has a verdict and a reason", /Allowed/.test(text) && /default/.test(text), text.replaceAll("\n", " | "));
}

async function ruled() {
  await row.getByRole("button", { name: /Make a rule/ }).click();
  await page.getByRole("dialog").getByText("Then").waitFor();
  const effect = await page.getByLabel("Effect").innerText();
  holds("its effect is shown first", /Now[\s\S]*Allowed[\s\S]*Then[\s\S]*Blocked/.test(effect), effect.replaceAll("\n", " | "));
  holds("nothing is saved before that is asked for", connects());
  await accessible("the rule");
  await page.getByRole("button", { name: "Save rule" }).click();
  await page.getByText(/^Saved\./).waitFor();
  await until("the rule blocks", () => !connects());
  await page.getByRole("row").filter({ hasText: "Blocked" }).first().waitFor();
  await page.getByRole("button", { name: "Undo" }).click();
  await page.getByText("Taken back").waitFor();
  await until("the rule is taken back", connects);
}

async function byKeyboard() {
  await page.reload();
  await row.waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type(name);
  for (let presses = 0; presses < 30 && !(await isInRow()); presses++) await page.keyboard.press("Tab");
  holds("a row can be reached by Tab", await isInRow());
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("r");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.waitForFunction(() => document.activeElement?.getAttribute("role") === "row");
  await page.keyboard.press("Enter");
  await page.getByLabel("Connection", { exact: true }).waitFor();
  await page.keyboard.press("Escape");
}

async function shippedRulesStay() {
  await open("rules");
  const rules = page.getByRole("listitem").filter({ hasText: "shipped#" });
  await rules.first().waitFor();
  holds("what no file holds cannot be taken out of one", (await rules.getByRole("button").count()) === 0);
}

async function everyView() {
  for (const [scheme, width] of [["light", 1400], ["dark", 1400], ["light", 360]]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height: 860 });
    for (const view of VIEWS) {
      await open(view);
      await page.waitForTimeout(300); // transitions
      const [needed, there] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      holds(`${view}, ${scheme}, ${width} wide: no scrolling sideways`, needed <= there, `${needed} in ${there}`);
      await accessible(`${view}, ${scheme}, ${width} wide`);
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1400, height: 860 });
}

// Real ones: datagrams from ever new sockets, no faster than they are decided.
const MANY = `
import socket, time
for i in range(2500):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b"x", ("${address}", 9000 + i % 900))
    s.close()
    if i % 20 == 19: time.sleep(0.02)
`;

async function thousands() {
  await open("connections");
  await page.getByRole("searchbox").fill("");
  const rows = () => page.evaluate(() => Number(document.querySelector("[role=grid]")?.getAttribute("aria-rowcount")));
  for (let rounds = 0; rounds < 10 && (await rows()) <= 10_000; rounds++) {
    const sent = spawnSync("/usr/bin/python3", ["-c", MANY], { encoding: "utf8" });
    if (sent.status !== 0) throw new Error(sent.stderr);
    await page.waitForTimeout(500);
    console.log(`after ${2500 * (rounds + 1)} datagrams: ${await rows()} rows`);
  }
  await page.waitForFunction(() => Number(document.querySelector("[role=grid]")?.getAttribute("aria-rowcount")) > 10_000);
  const scrolled = await page.evaluate(async () => {
    const grid = document.querySelector("[role=grid]");
    let most = 0;
    for (let i = 0; i < 60; i++) {
      grid.scrollTop += 5200;
      await new Promise(requestAnimationFrame);
      most = Math.max(most, grid.querySelectorAll("[role=row]").length);
    }
    return { most, top: grid.scrollTop };
  });
  const few = scrolled.most < 100 && scrolled.top > 200_000;
  holds("ten thousand rows are scrolled through with few of them in the document", few, JSON.stringify(scrolled));
}

try {
  await step("a connection is seen as it is made", seen);
  await accessible("connections");
  await step("a rule is made of it in two clicks, and taken back", ruled);
  await step("by keyboard alone", byKeyboard);
  await step("rules as shipped", shippedRulesStay);
  await step("every view", everyView);
  await step("ten thousand connections", thousands);
  holds("nobody but the gateway was asked", [...asked].every((origin) => `${origin}/` === HOME), [...asked].join(" "));
  holds("the browser had nothing to complain of", complaints.length === 0, complaints.slice(0, 5).join("\n"));
} finally {
  await context.close();
  rmSync(data, { recursive: true, force: true });
}
process.exit(failures ? 1 : 0);
