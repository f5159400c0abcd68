//! What is used of the browser, as it stands in its standards: WebTransport, Streams, Fetch. Of what a browser lacks the call
//! throws, which is an error here.

use std::fmt;

use js_sys::{Array, Function, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::{
    JsCast, JsValue,
    prelude::{Closure, wasm_bindgen},
};
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    pub(super) type WebTransport;
    #[wasm_bindgen(constructor, catch)]
    pub(super) fn new(url: &str, options: &Object) -> Result<WebTransport, JsValue>;
    #[wasm_bindgen(method, getter)]
    pub(super) fn ready(this: &WebTransport) -> Promise;
    #[wasm_bindgen(method, getter)]
    pub(super) fn closed(this: &WebTransport) -> Promise;
    #[wasm_bindgen(method, catch)]
    pub(super) fn close(this: &WebTransport, info: &Object) -> Result<(), JsValue>;
    #[wasm_bindgen(method, getter)]
    pub(super) fn datagrams(this: &WebTransport) -> Datagrams;
    #[wasm_bindgen(method, getter, js_name = incomingUnidirectionalStreams)]
    pub(super) fn incoming(this: &WebTransport) -> Readable;
    #[wasm_bindgen(method, catch, js_name = createUnidirectionalStream)]
    pub(super) fn create_uni(this: &WebTransport, options: &Object) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch, js_name = createBidirectionalStream)]
    pub(super) fn create_bi(this: &WebTransport, options: &Object) -> Result<Promise, JsValue>;

    pub(super) type Datagrams;
    #[wasm_bindgen(method, getter)]
    pub(super) fn readable(this: &Datagrams) -> Readable;
    #[wasm_bindgen(method, getter)]
    pub(super) fn writable(this: &Datagrams) -> Writable;
    #[wasm_bindgen(method, getter, js_name = maxDatagramSize)]
    pub(super) fn bytes_max(this: &Datagrams) -> f64;
    #[wasm_bindgen(method, setter, js_name = incomingHighWaterMark)]
    pub(super) fn set_incoming_mark(this: &Datagrams, datagrams: f64);
    #[wasm_bindgen(method, setter, js_name = outgoingHighWaterMark)]
    pub(super) fn set_outgoing_mark(this: &Datagrams, datagrams: f64);

    pub(super) type Bidirectional;
    #[wasm_bindgen(method, getter)]
    pub(super) fn readable(this: &Bidirectional) -> Readable;
    #[wasm_bindgen(method, getter)]
    pub(super) fn writable(this: &Bidirectional) -> Writable;

    pub(super) type Readable;
    #[wasm_bindgen(method, catch, js_name = getReader)]
    pub(super) fn reader(this: &Readable) -> Result<Reader, JsValue>;

    pub(super) type Reader;
    #[wasm_bindgen(method)]
    fn read(this: &Reader) -> Promise;
    #[wasm_bindgen(method)]
    fn cancel(this: &Reader, why: &JsValue) -> Promise;

    pub(super) type Writable;
    #[wasm_bindgen(method, catch, js_name = getWriter)]
    pub(super) fn writer(this: &Writable) -> Result<Writer, JsValue>;

    pub(super) type Writer;
    #[wasm_bindgen(method, getter)]
    pub(super) fn ready(this: &Writer) -> Promise;
    #[wasm_bindgen(method, getter)]
    pub(super) fn closed(this: &Writer) -> Promise;
    #[wasm_bindgen(method)]
    fn write(this: &Writer, chunk: &Uint8Array) -> Promise;
    #[wasm_bindgen(method)]
    pub(super) fn close(this: &Writer) -> Promise;
    #[wasm_bindgen(method)]
    fn abort(this: &Writer, why: &JsValue) -> Promise;

    type WebTransportError;
    #[wasm_bindgen(constructor, catch)]
    fn new(message: &str, options: &Object) -> Result<WebTransportError, JsValue>;

    #[wasm_bindgen(catch)]
    fn fetch(url: &str, options: &Object) -> Result<Promise, JsValue>;
    type Response;
    #[wasm_bindgen(method, getter)]
    fn ok(this: &Response) -> bool;
    #[wasm_bindgen(method, getter)]
    fn status(this: &Response) -> u16;
    #[wasm_bindgen(method, getter)]
    fn body(this: &Response) -> Option<Readable>;

    #[wasm_bindgen(thread_local_v2, js_name = origin)]
    static ORIGIN: Option<String>;
}

/// What a browser says of something that did not work. It tells a page little.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the browser says: {0}")]
pub(super) struct Said(String);

impl Said {
    pub(super) fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}

impl From<JsValue> for Said {
    fn from(thrown: JsValue) -> Self {
        let message = get(&thrown, "message").as_string().filter(|message| !message.is_empty());
        Self(message.or(get(&thrown, "name").as_string()).unwrap_or_else(|| format!("{thrown:?}")))
    }
}

/// An object with these fields.
pub(super) fn object(fields: &[(&str, JsValue)]) -> Object {
    let object = Object::new();
    for (name, value) in fields {
        // An object of our own takes any field.
        let _ = Reflect::set(&object, &(*name).into(), value);
    }
    object
}

/// A field of a value; undefined where there is none.
pub(super) fn get(value: &JsValue, name: &str) -> JsValue {
    Reflect::get(value, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

/// Waits for a promise.
pub(super) async fn wait(promise: Promise) -> Result<JsValue, Said> {
    JsFuture::from(promise).await.map_err(Said::from)
}

/// Lets a promise be, however it ends: one that is rejected and that nobody waits for would be reported as a fault of the page.
pub(super) fn ignore(promise: &Promise) {
    thread_local! {
        // Not a function made of text: a page's policy forbids those.
        static NOTHING: Closure<dyn Fn()> = Closure::new(|| {});
    }
    NOTHING.with(|nothing| {
        let nothing = nothing.as_ref();
        // `then` with a handler for both ways makes a promise that is kept.
        let _ = Reflect::get(promise, &"then".into())
            .and_then(|then| then.unchecked_into::<Function>().call2(promise, nothing, nothing));
    });
}

impl Reader {
    /// The next chunk; `None` behind the last.
    pub(super) async fn next(&self) -> Result<Option<JsValue>, Said> {
        let result = wait(self.read()).await?;
        Ok((!get(&result, "done").is_truthy()).then(|| get(&result, "value")))
    }

    /// We read no more, for this reason.
    pub(super) fn stop(&self, code: u64) {
        ignore(&self.cancel(&stream_error(code)));
    }
}

impl Writer {
    /// Hands a chunk over; how that ends is told with the stream.
    pub(super) fn push(&self, bytes: &[u8]) {
        ignore(&self.write(&Uint8Array::from(bytes)));
    }

    /// The same, and waits until it is taken.
    pub(super) async fn take(&self, bytes: &[u8]) -> Result<(), Said> {
        wait(self.write(&Uint8Array::from(bytes))).await.map(drop)
    }

    /// What is still to be sent is not worth it, for this reason.
    pub(super) fn reset(&self, code: u64) {
        ignore(&self.abort(&stream_error(code)));
    }
}

fn stream_error(code: u64) -> JsValue {
    let options = object(&[("source", "stream".into()), ("streamErrorCode", (code as u32).into())]);
    WebTransportError::new("", &options).map_or(JsValue::UNDEFINED, JsValue::from)
}

/// Gets a small file of a server that lets every page ask. What has more bytes than that is read no further.
pub(super) async fn get_file(url: &str, bytes_max: usize) -> Result<Vec<u8>, Said> {
    let options = object(&[
        ("cache", "no-store".into()),
        ("credentials", "omit".into()),
        ("redirect", "error".into()),
        ("referrerPolicy", "no-referrer".into()),
    ]);
    let response: Response = wait(fetch(url, &options)?).await?.unchecked_into();
    if !response.ok() {
        return Err(Said::new(format_args!("{url} answers {}", response.status())));
    }
    let Some(body) = response.body() else { return Ok(Vec::new()) };
    let (body, mut file) = (body.reader()?, Vec::new());
    while let Some(chunk) = body.next().await? {
        let chunk = Uint8Array::new(&chunk);
        if file.len() + chunk.length() as usize > bytes_max {
            ignore(&body.cancel(&JsValue::UNDEFINED));
            return Err(Said::new(format_args!("{url} answers with more than {bytes_max} bytes")));
        }
        file.extend_from_slice(&chunk.to_vec());
    }
    Ok(file)
}

/// From where the page was loaded; `None` of a page from disk.
pub(super) fn own_origin() -> Option<String> {
    ORIGIN.with(Clone::clone).filter(|origin| origin.starts_with("http"))
}

/// An array of these.
pub(super) fn array(values: impl IntoIterator<Item = JsValue>) -> Array {
    values.into_iter().collect()
}
