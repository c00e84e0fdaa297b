// Where the page is, how wide it is, and what it says once.

import { signal } from "@preact/signals";

export const VIEWS = { overview: "Overview", connections: "Connections", dns: "DNS", gate17: "Gate17", rules: "Rules", services: "Services" };
export type View = keyof typeof VIEWS;

function view(): View {
  const name = location.hash.replace(/^#\/?/, "");
  return name in VIEWS ? (name as View) : "overview";
}

export const current = signal<View>(view());
addEventListener("hashchange", () => {
  current.value = view();
});

export function go(to: View) {
  location.hash = `#/${to}`;
}

/** A page that nobody sees lets go of its streams after that. */
const HIDDEN_FOR = 60_000;

/**
 * Keeps a stream, while somebody looks: a browser has six connections to a host, for all its tabs. `start` gives what ends it; so
 * does this.
 */
export function whileSeen(start: () => () => void): () => void {
  let stop: (() => void) | undefined = start();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const seen = () => {
    clearTimeout(timer);
    if (!document.hidden) {
      stop ??= start();
      return;
    }
    timer = setTimeout(() => {
      stop?.();
      stop = undefined;
    }, HIDDEN_FOR);
  };
  document.addEventListener("visibilitychange", seen);
  return () => {
    document.removeEventListener("visibilitychange", seen);
    clearTimeout(timer);
    stop?.();
  };
}

/** Rows take two lines. */
const query = matchMedia("(max-width: 760px)");
export const narrow = signal(query.matches);
query.addEventListener("change", () => {
  narrow.value = query.matches;
});

/** What was done, with a way back where there is one. */
export interface Notice {
  text: string;
  undo?: () => Promise<void>;
}
export const notice = signal<Notice | undefined>(undefined);
let timer: ReturnType<typeof setTimeout> | undefined;

export function say(said: Notice) {
  clearTimeout(timer);
  notice.value = said;
  timer = setTimeout(() => {
    notice.value = undefined;
  }, 12_000);
}
