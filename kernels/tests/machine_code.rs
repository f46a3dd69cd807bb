//! What the register tile of products has become: the loops of this very program, by `objdump`, which comes
//! with the linker.

use std::process::Command;

/// Address and text of an instruction.
type Line = (u64, String);

/// The instructions of the functions whose names contain all of `words`, function by function.
fn functions(disassembly: &str, words: &[&str]) -> Vec<Vec<Line>> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in disassembly.lines() {
        if line.ends_with(">:") {
            inside = words.iter().all(|word| line.contains(word));
            if inside {
                found.push(Vec::new());
            }
        } else if inside && let Some((address, text)) = line.trim().split_once(":\t") {
            let address = u64::from_str_radix(address, 16).expect("an address");
            found.last_mut().expect("a function").push((address, text.to_owned()));
        }
    }
    found
}

/// The innermost loops of a function that multiply: from the target of a jump back to the jump, with no other
/// jump back between them.
fn loops(function: &[Line]) -> Vec<&[Line]> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (end, (at, text)) in function.iter().enumerate() {
        let mut words = text.split_whitespace();
        let jump = words.next().is_some_and(|name| name.starts_with('j'));
        let target = words.next().and_then(|to| u64::from_str_radix(to, 16).ok()).filter(|to| to <= at);
        let Some(target) = target.filter(|_| jump) else { continue };
        let Some(start) = function[..=end].iter().position(|(address, _)| *address == target) else {
            continue;
        };
        // Jumps come in order: a loop that ended after this one's start lies within it.
        let inner = found.last().is_some_and(|&(_, before)| before >= start);
        if !inner {
            found.push((start, end));
        }
    }
    let multiply = |body: &&[Line]| body.iter().any(|(_, text)| text.starts_with("vfmadd"));
    found.into_iter().map(|(start, end)| &function[start..=end]).filter(multiply).collect()
}

fn count(body: &[Line], what: impl Fn(&str) -> bool) -> usize {
    body.iter().filter(|(_, text)| what(text)).count()
}

/// Each step of a tile of R rows by N vectors: R · N multiply-adds of the widest registers, no sum in memory;
/// R broadcasts, N loads, at most one fetch ahead and one number that found no register.
#[test]
fn tiles_of_products_keep_their_sums_in_registers() {
    let program = std::env::current_exe().expect("the name of this program");
    let output = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn", "--wide"])
        .arg(program)
        .output()
        .expect("objdump, which comes with the linker (binutils)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    for (function, version, register, [rows, vectors]) in [
        ("product_ahead", "avx512f", "zmm", [8, 2]),
        ("product_ahead", "product_ahead_avx2_fma", "ymm", [4, 2]),
        ("product_narrow", "avx512f", "zmm", [8, 1]),
        ("product_narrow", "product_narrow_avx2_fma", "ymm", [4, 2]),
    ] {
        let functions = functions(&text, &["4tile", function, version]);
        assert_eq!(functions.len(), 1, "versions of {function} for {version}");
        let loops = loops(&functions[0]);
        // Five pairs of steps; fetching ahead is another loop.
        let wanted = if function == "product_ahead" { 10 } else { 5 };
        assert!(loops.len() >= wanted, "{function} for {version} has {} loops that multiply", loops.len());
        for body in loops {
            let shown = || body.iter().map(|(_, text)| format!("\n    {text}")).collect::<String>();
            let sums = count(body, |text| text.starts_with("vfmadd") && text.contains(register));
            assert_eq!(sums, rows * vectors, "multiply-adds of {function} for {version}:{}", shown());
            let memory = count(body, |text| text.contains('(') && !text.starts_with("lea"));
            assert!(
                memory <= rows + vectors + 2,
                "{function} for {version} reads {memory} times:{}",
                shown()
            );
            let kept = count(body, |text| text.starts_with("vmov") && text.ends_with(')'));
            assert_eq!(kept, 0, "{function} for {version} stores in its loop:{}", shown());
            assert!(body.len() <= 2 * rows * vectors + 12, "{function} for {version}:{}", shown());
        }
    }
}
