/**
 * All that the page says, in one place. Another language is another object of this shape, added to `LANGUAGES`.
 *
 * What went wrong is told in three parts: what happened, why, what to do. Names come in as they are to be shown.
 */
import type { Phase, Trouble } from "../contract.ts";

const count = (number: number, one: string, many: string): string => `${number} ${number === 1 ? one : many}`;

export const english = {
  language: "en",
  product: "Supernode",

  title: {
    call: (room: string, people: number) => `${room} (${people})`,
    ringing: (who: string) => `${who} rings`,
    knocking: (who: string) => `${who} is at the door`,
    unread: (title: string, unread: number) => `(${unread}) ${title}`,
  },

  no_link: {
    opening: "Reading the link…",
    heading: "Paste the link of a call",
    explanation: "You were sent a link, or whoever runs the relay has one. It says where the call is and lets you in.",
    label: "Link",
    example: "supernode://… or https://…#…",
    open: "Open the link",
    empty: { what: "There is no link yet.", todo: "Paste it into the field above." },
    where: "It is in the message that invited you. Take all of it: what stands behind the # is needed too.",
  },

  door: {
    heading: { room: "Enter the room", person: "Ring somebody", relay: "Open a room" },
    room: (relay: string) => `This link leads into a room at ${relay}.`,
    person: (who: string, relay: string) => `This link rings ${who} through ${relay}.`,
    relay: (relay: string) => `This link leads to the relay ${relay}. The room that you open there has a link of its own, to give to others.`,
    name: "Your name",
    name_hint: "Everybody in the call sees it.",
    no_name: { what: "You have no name yet.", why: "The others see who comes in.", todo: "Type what they know you by." },
    enter: { room: "Enter", person: "Ring", relay: "Open a room" },
    coming_in: {
      both: "You come in with sound and picture.",
      sound: "You come in with sound, without a picture.",
      picture: "You come in muted, with a picture.",
      none: "You come in muted, without a picture. You can turn both on inside.",
    },
    privacy: (relay: string) =>
      `Sound, pictures, chat and files are sealed on your device, and opened only by the people in the call: the relay ${relay} passes them on and cannot open them.`,
    other_link: "Use another link",
    back: "Back",
    preview: "Your camera",
    preview_off: "Your camera is off",
    prepare: "Turn on microphone and camera",
    prepare_hint: "Your browser asks whether this page may use them.",
    devices: "Microphone, camera and speaker",
  },

  devices: {
    heading: "Devices",
    microphone: "Microphone",
    camera: "Camera",
    speaker: "Speaker",
    none: { microphone: "No microphone found", camera: "No camera found", speaker: "The browser's choice" },
    unnamed: (number: number) => `Device ${number}`,
    not_allowed: "Their names can be read once you have let this page use them.",
    level: "How loud your microphone is",
    silent: "Nothing is heard. Speak, or choose another microphone; some have a switch of their own.",
    heard: "Your microphone is heard.",
    microphone_off: "Your microphone is off.",
  },

  entering: {
    heading: { room: "On the way in", person: "Ringing", relay: "Opening a room" },
    steps: {
      relay: { now: "Reaching the relay", done: "Relay reached", detail: "If this takes longer than a few seconds, your network may hold back UDP." },
      knocking: { now: "Knocking", done: "Let in", detail: "Somebody inside lets you in. You can be seen and heard only after that." },
      ringing: { now: "It rings", done: "Answered", detail: "You are connected when they answer." },
      keys: { now: "Getting the call's keys", done: "Keys here", detail: "The people inside seal them for you; the relay cannot read them." },
    } satisfies Record<Extract<Phase, { kind: "entering" }>["step"], unknown>,
    cancel: "Cancel",
  },

  over: {
    heading: "You have left the call",
    heading_trouble: "The call is over",
    heading_outside: "You did not get in",
    left: "Nothing of yours is sent any more: microphone and camera are off.",
    back: "Come back",
    again: "Try again",
    other_link: "Open another link",
  },

  bar: {
    label: "Controls of the call",
    microphone: { on: "Mute", off: "Unmute", starting: "Microphone…", },
    camera: { on: "Stop camera", off: "Start camera", starting: "Camera…" },
    screen: { on: "Stop sharing", off: "Share screen", starting: "Sharing…" },
    reactions: "React",
    chat: "Chat",
    people: "People",
    more: "More",
    leave: "Leave",
    unread: (number: number) => count(number, "unread message", "unread messages"),
    knocking: (number: number) => count(number, "person at the door", "people at the door"),
    state: { on: "on", off: "off", starting: "starting" },
  },

  menu: {
    invite: "Invite people",
    safety: "Who can listen?",
    devices: "Devices",
    full: "Full screen",
    figures: "Figures",
    shortcuts: "Keyboard shortcuts",
    screen: { on: "Stop sharing your screen", off: "Share your screen", starting: "Sharing…" },
  },

  reactions: {
    label: "Reactions",
    choices: [
      { emoji: "👍", name: "Thumbs up" },
      { emoji: "👏", name: "Applause" },
      { emoji: "❤️", name: "Heart" },
      { emoji: "😂", name: "Laughing" },
      { emoji: "😮", name: "Astonished" },
      { emoji: "✋", name: "Hand up" },
    ],
  },

  call: {
    label: "The call",
    unnamed: "Call",
    stage: "People and screens in the call",
    sealed: "Sealed end to end",
    sealed_short: "Sealed",
    alone: {
      heading: "Nobody else is here yet",
      text: "Give somebody the room's link. Whoever has it can find this room again, as long as you like.",
      invite: "Invite people",
    },
    and_more: (number: number) => `and ${number} more`,
    my_line: {
      poor: { what: "Your line is poor.", why: "Less gets through than the call needs.", todo: "Sound comes first. Turn off your camera, or go nearer to your router." },
      lost: { what: "Your connection is lost.", why: "Nothing from the relay has arrived for a while.", todo: "This page tries again by itself. Stay, or check your network." },
    },
  },

  tile: {
    you: "you",
    me: (name: string) => `${name} (you)`,
    muted: "muted",
    poor: "poor line",
    lost: "line lost",
    gone: "away, may come back",
    no_picture: "no picture",
    changed: "other identity",
    verified: "verified",
    host: "host",
    screen: (who: string) => `${who}'s screen`,
    my_screen: "Your screen",
    sharing: "You are showing your screen to everybody.",
    large: (who: string) => `Show ${who} large`,
    small: (who: string) => `Show ${who} small again`,
  },

  chat: {
    heading: "Chat",
    close: "Close the chat",
    log: "Messages",
    empty: "Nothing said yet. Only the people in the call can read what is written here.",
    field: "Message to everybody",
    send: "Send",
    attach: "Send a file",
    you: "You",
    earlier: "Show earlier ones",
    later: "Show later ones",
    newest: (number: number) => (number === 0 ? "To the newest" : `${count(number, "new message", "new messages")} below`),
    left_out: (number: number) => `(${count(number, "character", "characters")} more, not shown)`,
    not_sent: (what: string) => `Not sent: ${what}`,
    drop: "Let go to send to everybody in the call",
  },

  file: {
    save: "Save",
    save_of: (name: string) => `Save ${name}`,
    from_others: {
      offered: "Offered to you",
      coming: (percent: number) => `Coming, ${percent} %`,
      here: "Here",
      failed: "It did not come through. Ask for it again.",
    },
    from_us: {
      offered: "Offered",
      coming: (percent: number) => `Sending, ${percent} %`,
      here: "Sent",
      failed: "It could not be sent. Send it again.",
    },
    progress: (name: string) => `How much of ${name} is through`,
  },

  people: {
    heading: "People",
    close: "Close the list of people",
    list: "Those in the call",
    at_door: (number: number) => `At the door (${number})`,
    in_call: (number: number) => `In the call (${number})`,
    admit: "Let in",
    admit_who: (who: string) => `Let in ${who}`,
    turn_away: "Turn away",
    turn_away_who: (who: string) => `Turn away ${who}`,
    has_link: "has the room's link",
    no_link: "has no link of this room",
    lobby: "Look first who comes",
    lobby_on: "Somebody inside lets each person in.",
    lobby_off: "Whoever has the link comes in by themselves.",
    compare: "Compare numbers",
    compare_with: (who: string) => `Compare numbers with ${who}`,
    put_out: "Put out",
    put_out_who: (who: string) => `Put out ${who}`,
    trust: { unknown: "not compared", verified: "verified", changed: "another identity than before" },
    invite: "Invite people",
    sharing: "shares a screen",
  },

  put_out: {
    heading: (who: string) => `Put ${who} out?`,
    text: (who: string) => `${who} hears and sees nothing more from that moment. With the room's link they can knock again, under another identity as well: look first who comes, or meet in another room.`,
    yes: "Put out",
    no: "Keep in the call",
  },

  verify: {
    heading: (who: string) => `Is it really ${who}?`,
    proves: (who: string) =>
      `If ${who} sees the same 60 digits, the two of you are talking to each other and nobody stands between you, not even the relay.`,
    how: (who: string) => `Read them to each other, or hold the pictures side by side. Best face to face; over this call only if you know ${who}'s voice.`,
    number: "The number of the two of you",
    picture: "The same number as a picture, to be read by a camera",
    waiting: "The number is being worked out…",
    same: "They are the same",
    differ: "They differ",
    verified: (who: string) => `You have compared, and it is the same ${who} since. This device remembers it.`,
    take_back: "Forget that we compared",
    changed: (who: string) => `This is not the identity that ${who} had when you last met.`,
    changed_why: (who: string) => `${who} may have a new device or a fresh browser. Or somebody else is using the name.`,
    changed_todo: "Say nothing that matters until you have compared the numbers again.",
    differ_advice: {
      what: "Then somebody may stand between you.",
      why: "The same people always see the same number, unless one of you has looked at another person's.",
      todo: "Look once more whether both have opened the right person. If so, leave, and meet over another way.",
    },
  },

  safety: {
    heading: "Who can listen?",
    text: "The people in the list, and nobody else. Everything is sealed on each device and opened on theirs. The relay knows who is in the call, when, and how much is sent; it has no key.",
    number: "The number of this call",
    same: "Everybody in the call sees this number. If two of you see different ones, somebody keeps you apart or stands between you. It changes whenever somebody comes or goes.",
    waiting: "The number is there once somebody else is in the call.",
    compare: "Whether somebody is who they say, you find out by comparing numbers with them, in the list of people.",
    me: "Your identity",
    page: "This page",
    page_kept: "This page is a file on your device and cannot change by itself. If you have it from somebody whom you do not trust, compare it with the SHA-256 in the release notes.",
    page_served: "This page comes from a server each time, and whoever runs the server can change it. Kept as a file and opened from there, it works as well and cannot change by itself.",
  },

  own_page: {
    expected: "SHA-256 that you were sent by another way",
    file: "The file of this page, as it is on your device",
    compare: "Compare",
    is: "The SHA-256 of this page",
    same: "It is the same.",
    different: "It is another page than the one that you were sent the SHA-256 of. Leave, and ask whoever sent it; there may be a newer one.",
    compare_it: "Compare it with the one that you were sent, by the release notes or by somebody whom you trust.",
    no_hash: "What you were sent is no SHA-256, which has 64 digits from 0 to 9 and from a to f. Copy it whole.",
    not_served: { what: "The page could not be read again.", why: "The server that it came from does not answer.", todo: "Save the page and look at the file's SHA-256 instead." },
    no_file: { what: "No file was chosen.", why: "A page cannot read its own file by itself.", todo: "Choose the file that you opened." },
    limits: "This finds a wrong or an old page. One that was changed on purpose can say anything about itself: who must be sure saves the page, looks at the file with a program such as sha256sum, and opens that file.",
  },

  invite: {
    heading: "Invite people",
    room: "Link into this room",
    room_hint: (lobby: boolean) =>
      lobby
        ? "Whoever has it can knock; somebody inside lets them in. Send it only to whom it is meant for."
        : "Whoever has it comes in. Send it only to whom it is meant for.",
    ticket: "Link to ring you",
    ticket_hint: "Whoever has it can ring you while this page is open, also when you are in no call, or always, as you choose below.",
    copy: "Copy",
    copied: "Copied",
    not_copied: "It could not be copied. Mark the text and copy it yourself.",
    share: "Share…",
    waiting: "The link is being made…",
    picture: "The link as a picture, to be read by a camera",
    too_long: "The link is too long for a picture.",
    show_ticket: "Make a link to ring me",
  },

  waking: {
    name: "Ring me when this page is closed",
    hint: "When somebody with your link rings, the relay then has your browser's maker wake this browser. That company learns when somebody rings you, not who; the relay learns by which name the company knows this browser.",
  },

  banner: {
    label: "Notices",
    close: "Close",
    more: (number: number) => `and ${count(number, "more notice", "more notices")}`,
    ring: (who: string) => `${who} rings`,
    ring_call: "Into a call of the two of you.",
    ring_room: (room: string) => `Into the room “${room}”.`,
    ring_leaves: "Answering ends the call that you are in.",
    accept: "Accept",
    decline: "Decline",
    knock: (who: string) => `${who} is at the door`,
    knocks: (number: number) => `${number} people are at the door`,
    look: "Look who",
    changed: (who: string) => `${who} has another identity than when you last met.`,
    changed_why: "A new device or browser makes one. So does somebody who only uses the name.",
    changed_todo: "Compare numbers before you say what matters.",
    compare: "Compare numbers",
    understood: "I know, go on",
  },

  shortcuts: {
    heading: "Keyboard shortcuts",
    enabled: "Single keys work as shortcuts",
    list: [
      { keys: ["m"], does: "Microphone on or off" },
      { keys: ["Space"], does: "Hold to speak while muted" },
      { keys: ["v"], does: "Camera on or off" },
      { keys: ["s"], does: "Share your screen, or stop" },
      { keys: ["c"], does: "Chat" },
      { keys: ["p"], does: "People" },
      { keys: ["r"], does: "React" },
      { keys: ["i"], does: "Invite people" },
      { keys: ["n"], does: "Go to the first notice" },
      { keys: ["?"], does: "This list" },
      { keys: ["Esc"], does: "Close what is open" },
    ],
  },

  figures: {
    heading: "Figures",
    text: "For whoever looks under the hood.",
    rtt: "Round trip to the relay",
    mouth_to_ear: "Mouth to ear, half of the time under",
    heard: "Pieces of sound heard (20 ms each)",
    concealed: "Of those made up, since they came late or never",
    silence: "Longest silence",
    seen: "Pictures seen",
    memory: "Memory",
    unknown: "not known",
    milliseconds: (value: number) => `${Math.round(value)} ms`,
  },

  announce: {
    came: (who: string) => `${who} came in.`,
    came_many: (number: number) => `${number} people came in.`,
    left: (who: string) => `${who} has left.`,
    left_many: (number: number) => `${number} people have left.`,
    screen: (who: string) => `${who} shows a screen.`,
    screen_over: (who: string) => `${who} shows no screen any more.`,
    line: { good: "Your line is good again.", poor: "Your line is poor.", lost: "Your connection is lost. This page tries again by itself." },
    message: (who: string, text: string) => `${who}: ${text}`,
    file: (who: string, name: string) => `${who} sends the file ${name}.`,
    reaction: (who: string, what: string) => `${who}: ${what}`,
    microphone: { on: "Your microphone is on.", off: "You are muted.", starting: "" },
    camera: { on: "Your camera is on.", off: "Your camera is off.", starting: "" },
    my_screen: { on: "Everybody sees your screen.", off: "Nobody sees your screen any more.", starting: "" },
  },

  close: "Close",
  cancel: "Cancel",
  unexpected: (what: string): Trouble => ({ what, todo: "Try it once more. If it happens again, load the page anew." }),
  something: "That did not work.",
};

export type Words = typeof english;

/** By the first part of a language tag (RFC 5646). */
export const LANGUAGES: Readonly<Record<string, Words>> = { en: english };

/** The first language of `wanted` that there is. */
export function choose_words(wanted: readonly string[]): Words {
  for (const tag of wanted) {
    const found = LANGUAGES[tag.toLowerCase().split("-")[0] ?? ""];
    if (found !== undefined) return found;
  }
  return english;
}

/** What a failed promise of the engine says. */
export function trouble_of(reason: unknown, words: Words): Trouble {
  if (typeof reason === "object" && reason !== null && "what" in reason && typeof reason.what === "string") {
    const part = (name: "why" | "todo"): Partial<Trouble> => {
      const value = (reason as Record<string, unknown>)[name];
      return typeof value === "string" ? { [name]: value } : {};
    };
    return { what: reason.what, ...part("why"), ...part("todo") };
  }
  return words.unexpected(reason instanceof Error && reason.message !== "" ? reason.message : words.something);
}
