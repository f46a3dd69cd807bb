use ganomede::models::{anogan::*, dcgan::Config};
use ganomede::{nn, program::compile, tape::*};
fn main() {
    let mut states = States::new();
    let config = Config { size: 64, width: 64, ..Config::default() };
    let model = AnoGan::new(&mut states, &config).unwrap();
    let opt = Optimisers::new(&mut states, &model, Training::default(), 1);
    let tape = Tape::new();
    let x = tape.input("x", &config.images(64));
    let z = config.prior.sample(&tape, &opt.random, 64, config.latent);
    model.train_step(&tape, x, z, &opt);
    nn::advance(&tape, &opt.random);
    let t = std::time::Instant::now();
    let g = tape.finish().unwrap();
    let p = compile(&g).unwrap();
    eprintln!("nodes {} compile {:?}", g.nodes.len(), t.elapsed());
    show(&p);
    let search = Search::new(&mut states, &model, &SearchConfig::default(), 64);
    let tape = Tape::new();
    search.step(&tape, &model);
    let p = compile(&tape.finish().unwrap()).unwrap();
    show(&p);
}
fn show(p: &ganomede::program::Program) {
    for l in &p.launches {
        let c = l.kernel.cost();
        let b = |v: &Vec<usize>| v.iter().map(|&i| format!("{}{}", match &p.buffers[i].role { ganomede::program::Role::Temporary => "t".into(), ganomede::program::Role::State(s) => format!("s{}.", s.0), ganomede::program::Role::Input(_) => "in".to_string(), ganomede::program::Role::Output(_) => "out".to_string() }, i)).collect::<Vec<_>>().join(",");
        println!("{:14} {:>8.1}M {:>8.2}MB {} -> {} {} out {:?}", l.kernel.name(), c.flops as f64 / 1e6, (c.bytes_read + c.bytes_written) as f64 / 1e6, b(&l.inputs), b(&l.outputs), l.scope, l.kernel.output_lens());
    }
    let c = p.cost();
    println!("launches {} gflop {:.2} MB {:.1} peak {:.1} MB", p.launches.len(), c.flops as f64 / 1e9, (c.bytes_read + c.bytes_written) as f64 / 1e6, p.peak_bytes() as f64 / 1e6);
}
