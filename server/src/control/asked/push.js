// Runs in a browser that its push service has woken (RFC 8030): says that somebody rings, and opens the page. It knows nothing
// of who rings: the message has no content. It answers for no request of the page's.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  const shown = { body: "Open the page to answer.", tag: "ring", renotify: true, requireInteraction: true };
  event.waitUntil(self.registration.showNotification("Somebody rings", shown));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open_page());
});

async function open_page() {
  const open = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  if (open.length === 0) {
    await self.clients.openWindow("./?rung");
    return;
  }
  open[0].postMessage("rung");
  await open[0].focus();
}
