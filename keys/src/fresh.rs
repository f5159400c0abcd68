//! Keys and tickets that nobody has seen before, from the operating system's generator.

use std::sync::Arc;

use supernode_proto::identity::{Holder, IdentityKey, SIGNATURE_BYTES, Ticket};
use zeroize::Zeroizing;

use crate::{DeviceSecret, IdentitySecret, Pass, Terms, TicketSecret};

macro_rules! fresh {
    ($($type:ident)*) => {
        $(impl $type {
            /// A fresh key from the operating system's generator.
            ///
            /// # Panics
            /// If the operating system has no randomness to give: there is no safe way on.
            pub fn generate() -> Self {
                let mut bytes = Zeroizing::new([0; 32]);
                fill_random(&mut *bytes);
                Self::from_bytes(&bytes)
            }
        })*
    };
}

fresh!(IdentitySecret DeviceSecret TicketSecret);

impl IdentitySecret {
    /// Makes out a ticket: to a person, or to whoever has the secret half of a key ([`Pass`]). Its id is random.
    ///
    /// # Panics
    /// If the operating system has no randomness to give.
    pub fn issue_ticket(&self, holder: Holder, terms: &Terms) -> Ticket {
        let mut id = [0; 8];
        fill_random(&mut id);
        let Terms { grants, relay, generation, not_after_unix_s } = *terms;
        let (issuer, signature) = (self.public(), [0; SIGNATURE_BYTES]);
        self.sign_ticket(Ticket { issuer, holder, relay, grants, generation, not_after_unix_s, id, signature })
    }

    /// A pass for one person, which nobody else can use.
    ///
    /// # Panics
    /// If the operating system has no randomness to give.
    pub fn issue_pass_for(&self, holder: IdentityKey, terms: &Terms) -> Pass {
        Pass { ticket: self.issue_ticket(Holder::Identity(holder), terms), key: None }
    }

    /// A pass for whoever is given it.
    ///
    /// # Panics
    /// If the operating system has no randomness to give.
    pub fn issue_pass(&self, terms: &Terms) -> Pass {
        let key = TicketSecret::generate();
        Pass { ticket: self.issue_ticket(Holder::Key(key.public()), terms), key: Some(Arc::new(key)) }
    }
}

fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives randomness");
}
