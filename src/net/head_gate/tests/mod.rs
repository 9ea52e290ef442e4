//! The gate alone (`pure`), against time (`slow`), in front of a real hyper server (`with_hyper`), and around tunnels
//! (`sealed`).

mod cases;
mod pure;
mod sealed;
mod slow;
mod with_hyper;

use cases::{Case, cases};

fn must_reject() -> Vec<Case> {
    cases(include_str!("../../../../tests/data/http1/must-reject"))
}

fn must_accept() -> Vec<Case> {
    cases(include_str!("../../../../tests/data/http1/must-accept"))
}
