// Keeps what is on the page up to date. Without it the page loads itself again; nothing else is lost.
"use strict";

(function () {
  const INTERVAL_MS = 1000;
  const live = document.getElementById("live");

  // The server alone writes HTML: when the state changes, its page is fetched again and this part of it put in the old one's place.
  async function renew(element) {
    const answer = await fetch(location.href, { credentials: "same-origin" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(element.id);
    if (fresh === null) {
      return;
    }
    const focused = element.contains(document.activeElement);
    element.replaceWith(fresh);
    document.title = page.title;
    if (focused) {
      (fresh.querySelector("h1") || fresh.querySelector("a")).focus();
    }
  }

  async function look(element) {
    const answer = await fetch("status.php?ticket=" + encodeURIComponent(element.dataset.follow), { credentials: "same-origin" });
    if (!answer.ok) {
      return;
    }
    const status = await answer.json();
    if (status.state !== element.dataset.state) {
      await renew(element);
      // Said once for each state, not for each image.
      live.textContent = status.text;
      return;
    }
    const text = element.querySelector(".state");
    if (text.textContent !== status.text) {
      text.textContent = status.text;
    }
    const bar = element.querySelector("progress");
    if (bar !== null && status.percent !== null) {
      bar.value = status.percent;
    }
  }

  async function followAll() {
    const followed = document.querySelectorAll("[data-follow]");
    if (!document.hidden) {
      for (const element of followed) {
        try {
          await look(element);
        } catch (error) {
          // The server is away for a moment: asked again at the next turn.
        }
      }
    }
    if (followed.length > 0) {
      setTimeout(followAll, INTERVAL_MS);
    }
  }

  followAll();
})();
