//! Histograms of oriented gradients against plain loops in f64, on sides that are no multiples of a cell.

use std::f64::consts::TAU;

use crate::common::{assert_close, cpu, gpu, load, numbers, program, write};
use ganomede::device::Device;
use ganomede::models::orientations::{COUNT, STEP, places, samples};
use ganomede::tape::{States, Tape};

/// Descriptions of the places, `[n][place][orientation · channels + channel]`, before any norm.
fn cells(x: &[f32], [n, c, h, w]: [usize; 4]) -> Vec<Vec<f64>> {
    let pixel = |b: usize, k: usize, i: isize, j: isize| {
        let (i, j) = (i.clamp(0, h as isize - 1) as usize, j.clamp(0, w as isize - 1) as usize);
        f64::from(x[((b * c + k) * h + i) * w + j])
    };
    let mut all = vec![];
    for b in 0..n {
        for top in (0..h).step_by(STEP) {
            for left in (0..w).step_by(STEP) {
                let mut cell = vec![0.0; COUNT * c];
                for (i, j) in (0..2 * STEP).flat_map(|i| (0..2 * STEP).map(move |j| (i, j))) {
                    let (i, j) = ((top + i) as isize - 2, (left + j) as isize - 2);
                    if !(0..h as isize).contains(&i) || !(0..w as isize).contains(&j) {
                        continue;
                    }
                    for k in 0..c {
                        let across = pixel(b, k, i, j + 1) - pixel(b, k, i, j - 1);
                        let down = pixel(b, k, i + 1, j) - pixel(b, k, i - 1, j);
                        for o in 0..COUNT {
                            let angle = TAU * o as f64 / COUNT as f64;
                            let along = across * angle.cos() + down * angle.sin();
                            cell[o * c + k] += along.max(0.0) / (4 * STEP * STEP) as f64;
                        }
                    }
                }
                all.push(cell);
            }
        }
    }
    all
}

fn holds(device: &Device) {
    for shape @ [n, c, h, w] in [[2, 1, 32, 32], [1, 3, 17, 30], [3, 1, 21, 19]] {
        let x = numbers(shape.iter().product(), 5);
        let tape = Tape::new();
        let images = tape.input("x", &shape);
        tape.output("places", places(images));
        tape.output("samples", samples(images));
        let (mut run, _store) = load(device, &program(&tape), &States::new(), 0);
        write(&mut run, "x", &x);
        run.run(1).unwrap();

        let cells = cells(&x, shape);
        let each = h.div_ceil(STEP) * w.div_ceil(STEP);
        assert_eq!(cells.len(), n * each);
        let norm = |v: &mut dyn Iterator<Item = &f64>| v.map(|v| v * v).sum::<f64>();
        let want: Vec<f32> = cells
            .iter()
            .flat_map(|cell| {
                let by = (norm(&mut cell.iter()) + 0.01).sqrt();
                cell.iter().map(move |v| (v / by) as f32)
            })
            .collect();
        assert_close("places", &run.read("places").unwrap(), &want, 1e-5);
        let mut want = vec![];
        for sample in cells.chunks(each) {
            let by = norm(&mut sample.iter().flatten()).sqrt();
            want.extend((0..COUNT * c).flat_map(|k| sample.iter().map(move |cell| (cell[k] / by) as f32)));
        }
        assert_close("samples", &run.read("samples").unwrap(), &want, 1e-5);
    }
}

#[test]
fn orientations_are_those_of_plain_loops_on_cpu() {
    holds(&cpu());
}

#[test]
fn orientations_are_those_of_plain_loops_on_gpu() {
    holds(&gpu());
}

#[test]
fn an_image_of_one_colour_has_no_edges_and_contrast_does_not_count() {
    let tape = Tape::new();
    tape.output("samples", samples(tape.input("x", &[3, 1, 16, 16])));
    let (mut run, _store) = load(&cpu(), &program(&tape), &States::new(), 0);
    let one = numbers(256, 9);
    let faint: Vec<f32> = one.iter().map(|v| 0.25 * v - 0.5).collect();
    write(&mut run, "x", &[vec![0.7; 256], one, faint].concat());
    run.run(1).unwrap();
    let found = run.read("samples").unwrap();
    let [flat, one, faint] = [0, 1, 2].map(|i| &found[i * 128..][..128]);
    assert!(flat.iter().all(|v| *v == 0.0), "{flat:?}");
    assert!((one.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
    assert_close("contrast", faint, one, 1e-5);
}
