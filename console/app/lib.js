// The libraries, which classic scripts of the page have loaded.
/** @type {any} */
const loaded = globalThis;

const preact = /** @type {typeof import("preact")} */ (loaded.preact);
const hooks = /** @type {typeof import("preact/hooks")} */ (loaded.preactHooks);

export const { h, render, Component, Fragment } = preact;
export const { useState, useEffect, useLayoutEffect, useMemo, useRef } = hooks;
/** @type {(strings: TemplateStringsArray, ...values: any[]) => any} */
export const html = loaded.htm.bind(h);
export const uPlot = /** @type {any} */ (loaded.uPlot);
