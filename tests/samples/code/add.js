#!/usr/bin/env node
// eslint-disable no-console
import x from "y";
// Adds two numbers.
// Works for all.
export async function add(a, b) {
  const s = `${a}`; // {
  return a + b;
}
class Foo extends Bar {
  constructor() { super(); }
}
module.exports = { add };
