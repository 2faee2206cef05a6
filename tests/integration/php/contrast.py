"""Contrast as WCAG 2.1 counts it (1.4.3 and 1.4.11), from what the browser has computed: text, edges of fields, the progress bar."""

from __future__ import annotations

from typing import Any

from tests.browser import Page

_SCRIPT = """
(() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = (above, below) => {
    const alpha = above.length > 3 ? above[3] : 1;
    return [0, 1, 2].map(i => above[i] * alpha + below[i] * (1 - alpha));
  };
  const behind = element => {
    const layers = [];
    for (let one = element; one !== null; one = one.parentElement) layers.push(parse(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, above) => over(above, below), [255, 255, 255]);
  };
  const light = color => {
    const [r, g, b] = color.slice(0, 3).map(value => value / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const holders = new Set();
  while (walker.nextNode()) if (walker.currentNode.data.trim()) holders.add(walker.currentNode.parentElement);
  document.querySelectorAll("input:not([type=hidden]), textarea").forEach(field => holders.add(field));
  for (const holder of holders) {
    const style = getComputedStyle(holder);
    if (holder.closest(".unseen, .skip, noscript") || style.visibility === "hidden") continue;
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    const contrast = ratio(over(parse(style.color), behind(holder)), behind(holder));
    if (contrast < (large ? 3 : 4.5)) found.push([holder.outerHTML.slice(0, 120), contrast]);
  }
  for (const field of document.querySelectorAll("input:not([type=hidden]), textarea, .button, button")) {
    const contrast = ratio(parse(getComputedStyle(field).borderTopColor), behind(field.parentElement));
    if (contrast < 3) found.push(["edge of " + field.outerHTML.slice(0, 120), contrast]);
  }
  for (const bar of document.querySelectorAll("progress")) {
    const style = getComputedStyle(bar);
    const contrast = ratio(parse(style.color), parse(style.backgroundColor));
    if (contrast < 3) found.push(["bar", contrast]);
  }
  return found;
})()
"""


def find_faint_text(page: Page) -> list[Any]:
    """What cannot be told from its background well enough, each with its contrast."""
    found: list[Any] = page.evaluate(_SCRIPT)
    return found
