// Rows without end: only those in sight are in the document. Keys as in the grid pattern of the ARIA Authoring Practices.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

/** Beyond each edge of what is in sight. */
const SPARE = 8;

export interface Column {
  name: string;
  label: string;
}

interface Properties {
  label: string;
  columns: Column[];
  count: number;
  /** Pixels; the same for all. */
  height: number;
  /** What stands for a row while rows come and go. */
  identity: (at: number) => string;
  cells: (at: number) => ComponentChildren[];
  tone?: (at: number) => string;
  chosen?: string | undefined;
  open?: (at: number) => void;
  /** Another key on a row; true: it was meant. */
  keyed?: (at: number, key: string) => boolean;
  /** At the very top, so that what is new is seen. */
  attop?: (is: boolean) => void;
  empty: ComponentChildren;
  kind: string;
}

export function List(properties: Properties) {
  const { label, columns, count, height, identity, cells, kind } = properties;
  const frame = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [sight, setSight] = useState(600);
  const [active, setActive] = useState<string | undefined>(undefined);
  const wantsFocus = useRef(false);

  useLayoutEffect(() => {
    const element = frame.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setSight(element.clientHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const first = Math.max(0, Math.floor(top / height) - SPARE);
  const end = Math.min(count, Math.ceil((top + sight) / height) + SPARE);
  const shown = Array.from({ length: Math.max(0, end - first) }, (_, at) => first + at);
  let focused = shown.find((at) => identity(at) === active);
  // who tabs in lands on something
  focused ??= shown.find((at) => at * height >= top);

  useEffect(() => {
    if (!wantsFocus.current) return;
    wantsFocus.current = false;
    frame.current?.querySelector<HTMLElement>("[data-active]")?.focus({ preventScroll: true });
  });

  const move = (to: number) => {
    const element = frame.current;
    const at = Math.max(0, Math.min(count - 1, to));
    if (!element || count === 0) return;
    const head = element.querySelector<HTMLElement>(".list-head")?.offsetHeight ?? 0;
    if (at * height < element.scrollTop) element.scrollTop = at * height;
    else if ((at + 1) * height > element.scrollTop + element.clientHeight - head) {
      element.scrollTop = (at + 1) * height - element.clientHeight + head;
    }
    setTop(element.scrollTop);
    setActive(identity(at));
    wantsFocus.current = true;
  };

  const key = (event: KeyboardEvent) => {
    if (focused === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(sight / height) - 2);
    const moves: Record<string, number> = {
      ArrowDown: focused + 1,
      ArrowUp: focused - 1,
      PageDown: focused + page,
      PageUp: focused - page,
      Home: 0,
      End: count - 1,
    };
    const to = moves[event.key];
    if (to !== undefined) move(to);
    else if (event.key === "Enter" || event.key === " ") properties.open?.(focused);
    else if (!properties.keyed?.(focused, event.key)) return;
    event.preventDefault();
  };

  const scrolled = () => {
    const now = frame.current?.scrollTop ?? 0;
    setTop(now);
    properties.attop?.(now < height);
  };

  return (
    <div class={`list list-${kind}`} ref={frame} onScroll={scrolled} onKeyDown={key} role="grid" aria-label={label} aria-rowcount={count + 1} aria-colcount={columns.length}>
      <div class="list-head" role="rowgroup">
        <div class="list-row" role="row" aria-rowindex={1}>
          {columns.map((column) => (
            <div key={column.name} class={`cell cell-${column.name}`} role="columnheader">
              {column.label}
            </div>
          ))}
        </div>
      </div>
      {count === 0 && <div class="list-empty">{properties.empty}</div>}
      <div class="list-body" role="rowgroup" style={{ height: `${count * height}px` }}>
        {shown.map((at) => {
          const id = identity(at);
          return (
            <div
              key={id}
              class={`list-row ${properties.tone?.(at) ?? ""}`}
              role="row"
              aria-rowindex={at + 2}
              aria-selected={properties.chosen === id}
              tabIndex={at === focused ? 0 : -1}
              data-active={at === focused ? "" : undefined}
              style={{ transform: `translateY(${at * height}px)`, height: `${height}px` }}
              onClick={() => {
                setActive(id);
                properties.open?.(at);
              }}
              onFocus={() => setActive(id)}
            >
              {cells(at).map((cell, place) => (
                <div key={columns[place]?.name} class={`cell cell-${columns[place]?.name ?? ""}`} role="gridcell">
                  {cell}
                </div>
              ))}
            </div>
          );
        })}
      </div>
    </div>
  );
}
