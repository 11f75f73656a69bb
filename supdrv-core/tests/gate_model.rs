//! The gate between firing probes and whoever takes the tracer, or a module, away: every interleaving, by a model checker.
//!
//! The source file of the gate is compiled here once more, with the checker's atomics.

#![allow(dead_code, reason = "the model doesn't use all of the gate")]

mod atomics {
    pub use loom::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};
}

#[path = "../src/sync/gate.rs"]
mod gate;

use std::ptr::NonNull;

use gate::Gate;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// What is behind the gate: reading it while its owner takes it apart is a race, which the checker reports.
struct Target {
    alive: UnsafeCell<bool>,
}

fn target() -> NonNull<Target> {
    NonNull::from(Box::leak(Box::new(Target { alive: UnsafeCell::new(true) })))
}

/// What a firing probe does.
fn fire(gate: &Gate<Target>) -> bool {
    let Some(pass) = gate.enter() else { return false };
    // SAFETY: never freed before the end of the model.
    let target = unsafe { &*pass.target() };
    // SAFETY: the checker finds out whether somebody writes meanwhile.
    target.alive.with(|alive| assert!(unsafe { *alive }, "a probe reached what was taken away"));
    true
}

/// What removal does: close, wait, take apart. The wait is cut short where the checker would go on for ever; then nothing is taken apart.
fn take_away(gate: &Gate<Target>) -> bool {
    let Some(target) = gate.close() else { return false };
    for _ in 0..2 {
        if gate.is_idle() {
            // SAFETY: never freed before the end of the model.
            let target = unsafe { target.as_ref() };
            // SAFETY: the checker finds out whether somebody reads meanwhile.
            target.alive.with_mut(|alive| unsafe { *alive = false });
            return true;
        }
        thread::yield_now();
    }
    false
}

#[test]
fn nobody_is_inside_when_a_closed_gate_is_idle() {
    // All interleavings of three threads take minutes; those with at most three preemptions take a second.
    let mut bounded = loom::model::Builder::new();
    bounded.preemption_bound = Some(3);
    bounded.check(|| {
        let gate = Arc::new(Gate::default());
        gate.open(target());
        let probes: Vec<_> = (0..2)
            .map(|_| {
                let gate = gate.clone();
                thread::spawn(move || fire(&gate))
            })
            .collect();
        take_away(&gate);
        for probe in probes {
            probe.join().unwrap();
        }
        assert!(!fire(&gate), "a closed gate lets nobody in");
        assert!(gate.is_idle());
    });
}

#[test]
fn of_two_who_close_one_gets_the_target() {
    loom::model(|| {
        let gate = Arc::new(Gate::default());
        gate.open(target());
        let other = gate.clone();
        let other = thread::spawn(move || other.close().is_some());
        let mine = gate.close().is_some();
        assert!(mine != other.join().unwrap());
    });
}

#[test]
fn a_gate_that_is_opened_again_leads_to_the_new_target() {
    loom::model(|| {
        let gate = Arc::new(Gate::default());
        gate.open(target());
        let probe = {
            let gate = gate.clone();
            thread::spawn(move || {
                fire(&gate);
                fire(&gate);
            })
        };
        if take_away(&gate) {
            gate.open(target());
        }
        probe.join().unwrap();
    });
}
