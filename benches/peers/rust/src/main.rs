//! The work of Ganomede's benchmarks in burn and candle, timed as `../dcgan_torch.py` and `../ops_torch.py`
//! time it.
//!
//! `peers PEER WORK [--size 64] [--channels 1] [--width 64] [--latent 100] [--batch 64] [--runs 10]` prints a
//! JSON document a line. PEER is `burn-wgpu`, `burn-flex` or `candle`; WORK is `step` (a DCGAN training
//! step), `search` (a z-step of AnoGAN) or `ops` (single operations with their gradients; `--row N` runs the
//! one of that number, from 0). `peers PEER -` takes the rest of the arguments from lines of standard input
//! and ends each answer with an empty line: one process, so that burn tunes its kernels once.

mod burn_peer;
mod candle_peer;
mod work;

use std::io::BufRead;
use std::time::Instant;
use work::{Peer, Work};

type Error = Box<dyn std::error::Error>;

fn open(name: &str) -> Result<Box<dyn Peer>, Error> {
    Ok(match name {
        "burn-wgpu" => Box::new(burn_peer::Burn::wgpu()),
        "burn-flex" => Box::new(burn_peer::Burn::flex()),
        "candle" => Box::new(candle_peer::Candle),
        other => return Err(format!("no peer {other}: burn-wgpu, burn-flex or candle").into()),
    })
}

fn main() -> Result<(), Error> {
    let started = Instant::now();
    let mut arguments = std::env::args().skip(1);
    let peer = open(&arguments.next().ok_or("usage: peers PEER WORK [--NAME VALUE]...")?)?;
    let rest: Vec<String> = arguments.collect();
    if rest != ["-"] {
        return Work::parse(rest.iter().map(String::as_str))?.run(&*peer, started);
    }
    for line in std::io::stdin().lock().lines() {
        Work::parse(line?.split_whitespace())?.run(&*peer, started)?;
        println!();
    }
    Ok(())
}
