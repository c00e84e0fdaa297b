// What has no stream: asked again and again while somebody looks.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type Failure, type Input, type Method, type Output, type Service, call, failure } from "../api/client";

export interface Polled<T> {
  value: T | undefined;
  problem: Failure | undefined;
  again: () => void;
}

/** Calls now and every `every` milliseconds (0: once), not while the page is hidden. */
export function usePolled<S extends Service, M extends Method<S>>(service: S, method: M, every: number): Polled<Output<S, M>> {
  const [value, setValue] = useState<Output<S, M> | undefined>(undefined);
  const [problem, setProblem] = useState<Failure | undefined>(undefined);
  const alive = useRef(true);
  const ask = useCallback(() => {
    call(service, method, {} as Input<S, M>)
      .then((said) => {
        if (!alive.current) return;
        setValue(said);
        setProblem(undefined);
      })
      .catch((error: unknown) => {
        if (alive.current) setProblem(failure(error));
      });
  }, [service, method]);
  useEffect(() => {
    alive.current = true;
    ask();
    const timer = every > 0 ? setInterval(() => document.hidden || ask(), every) : undefined;
    return () => {
      alive.current = false;
      clearInterval(timer);
    };
  }, [ask, every]);
  return { value, problem, again: ask };
}
