use ganomede::models::{anogan::*, dcgan::Config};
use ganomede::{nn, models::scorer::compiled, tape::*, program::*};
use std::time::*;
fn main() {
    let a: Vec<usize> = std::env::args().skip(1).map(|s| s.parse().unwrap()).collect();
    let mut states = States::new();
    let config = Config { size: a[0], width: a[1], ..Config::default() };
    let b = a[2];
    let model = AnoGan::new(&mut states, &config).unwrap();
    let opt = Optimisers::new(&mut states, &model, Training::default(), 1);
    let p = compiled(|tape| {
    let x = tape.input("x", &config.images(b));
    let z = config.prior.sample(&tape, &opt.random, b, config.latent);
    let l = model.train_step(&tape, x, z, &opt);
    let l: Vec<_> = l.iter().map(|l| l.1.reshape(&[1])).collect();
    tape.output("l", Tensor::concat(&l, 0));
    nn::advance(&tape, &opt.random);
    }).unwrap();
    show(&p);
    let search = Search::new(&mut states, &model, &SearchConfig::default(), b);
    let p = compiled(|tape| search.step(tape, &model)).unwrap();
    show(&p);
}
fn show(p: &Program) {
    let mut bufs: Vec<Vec<f32>> = p.buffers.iter().map(|b| (0..b.len).map(|i| ((i * 7919 % 1000) as f32 / 1000.0) - 0.5).collect()).collect();
    let mut scratch = vec![0.0; p.launches.iter().map(|l| l.kernel.cpu_scratch_len(rayon::current_num_threads())).max().unwrap()];
    let mut times = vec![Duration::MAX; p.launches.len()];
    for _ in 0..5 {
        for (k, l) in p.launches.iter().enumerate() {
            let mut outs: Vec<Vec<f32>> = l.outputs.iter().map(|&o| std::mem::take(&mut bufs[o])).collect();
            {
                let ins: Vec<&[f32]> = l.inputs.iter().zip(l.kernel.input_lens()).map(|(&i, n)| &bufs[i][..n]).collect();
                let mut o: Vec<&mut [f32]> = outs.iter_mut().zip(l.kernel.output_lens()).map(|(v, n)| &mut v[..n]).collect();
                let t = Instant::now();
                l.kernel.cpu(&ins, &mut o, &mut scratch);
                times[k] = times[k].min(t.elapsed());
            }
            for (&o, v) in l.outputs.iter().zip(outs) { bufs[o] = v; }
        }
    }
    let total: Duration = times.iter().sum();
    let mut fam: std::collections::BTreeMap<&str, (Duration, f64, f64, usize)> = Default::default();
    for (l, t) in p.launches.iter().zip(&times) {
        let c = l.kernel.cost();
        let e = fam.entry(l.kernel.name()).or_default();
        e.0 += *t; e.1 += c.flops as f64; e.2 += (c.bytes_read + c.bytes_written) as f64; e.3 += 1;
        if t.as_secs_f64() > 0.01 * total.as_secs_f64() {
            println!("{:14} {:>8.2}ms {:>7.1} GF/s {:>6.1} GB/s  {} out {:?}", l.kernel.name(), t.as_secs_f64() * 1e3, c.flops as f64 / t.as_secs_f64() / 1e9, (c.bytes_read + c.bytes_written) as f64 / t.as_secs_f64() / 1e9, l.scope, l.kernel.output_lens());
        }
    }
    for (n, (t, f, b, k)) in fam { println!("{n:16} x{k:<3} {:>8.2} ms {:>7.1} GF/s {:>6.1} GB/s", t.as_secs_f64() * 1e3, f / t.as_secs_f64() / 1e9, b / t.as_secs_f64() / 1e9); }
    println!("TOTAL {:.1} ms  launches {} scratch {:.1} MB peak {:.1} MB", total.as_secs_f64() * 1e3, p.launches.len(), scratch.len() as f64 * 4e-6, p.peak_bytes() as f64 / 1e6);
}
