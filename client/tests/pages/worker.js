// Comes into the room of a link, says a hundred and fifty words and hears as many.
import init, { Guest } from "/page.js";

const WORDS = 150;

async function visit(link) {
    await init({ module_or_path: "/page_bg.wasm" });
    const begin = performance.now();
    const guest = await Guest.enter(link);
    postMessage({ entered_ms: performance.now() - begin });
    const [heard] = await Promise.all([guest.hear(), guest.speak(WORDS)]);
    const [by, rttMs] = guest.path();
    const safetyNumber = guest.safety_number();
    await guest.leave();
    return { heard, by, rtt_ms: rttMs, safety_number: safetyNumber };
}

onmessage = ({ data }) => visit(data).then(postMessage, (error) => postMessage({ error: `${error} ${error.stack}` }));
