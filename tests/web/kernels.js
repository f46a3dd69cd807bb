// Test (a): every variant of every kernel, as `ganomede export --web DIR --kernels` writes it, in Node on Dawn
// against what f64 loops gave: a second compiler (Tint) and a second driver hold the shaders. And every
// expression of `--tape` at all levels against the CPU. Usage:
//
//     node kernels.js PROGRAM FOLDER MODULES
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

import { Refusal, load } from "../../web/ganomede.js";
import { doubles, errorOf, featuresOf, lanesOf, part, planFor, relativeError } from "../../web/part.js";

const [program, folder, modules] = process.argv.slice(2);
const { create, globals } = await import(pathToFileURL(path.resolve(modules, "webgpu/index.js")).href);
Object.assign(globalThis, globals);
// Kept: Dawn does not outlive it.
const gpu = create([]);
const adapter = await gpu.requestAdapter();
assert.ok(adapter, "no adapter: VK_DRIVER_FILES names a driver's file");
const lanes = lanesOf(adapter);
const requiredFeatures = featuresOf(adapter);
const f16 = requiredFeatures.includes("shader-f16");
const device = await adapter.requestDevice({ requiredFeatures });
const plain = await (await gpu.requestAdapter()).requestDevice();
console.log(
  `adapter: ${adapter.info.description}, ${lanes > 0 ? `subgroups of ${lanes}` : "no subgroups of one size"}, ` +
    `${f16 ? "halves" : "no halves"}`,
);

const exported = (what) => {
  const dir = path.join(folder, what);
  rmSync(dir, { recursive: true, force: true });
  execFileSync(program, ["export", "--web", dir, `--${what}`], { stdio: ["ignore", "ignore", "inherit"] });
  const bytes = async (name) => new Uint8Array(readFileSync(path.join(dir, name))).buffer;
  const json = (name) => JSON.parse(readFileSync(path.join(dir, name), "utf8"));
  return { dir, bytes, document: json("program.json"), page: json(`${what}.json`) };
};

// Every rung.
{
  const { bytes, document, page } = exported("kernels");
  const oracle = doubles(await bytes(page.oracle));
  const rungs = page.ladders.flatMap((ladder) => ladder.rungs.map((rung) => ({ ladder, rung })));
  let [worst, run, shuffled, refused, bitten, began] = [0, 0, 0, 0, 0, performance.now()];
  for (const [place, { ladder, rung }] of rungs.entries()) {
    const [small] = rung.samples;
    const title = `${ladder.name} ${rung.name}`;
    assert.ok(small.want.length === small.outputs.length && small.twin_error <= small.tolerance, title);
    // Plans with subgroups or halves are refused by a device without, and by a device with other ones not chosen.
    for (const { program: name, lanes: of } of small.plans.filter((plan) => plan.lanes !== null || plan.f16)) {
      const source = await part(document, name, bytes);
      await assert.rejects(load(source, { device: plain }), Refusal, `${title} for ${of ?? "any"} lanes`);
      refused++;
    }
    const plan = planFor(small.plans, { lanes, f16 });
    if (!plan) continue;
    const model = await load(await part(document, plan.program, bytes), { device });
    const error = await errorOf(model, small, plan.program, oracle);
    model.destroy();
    assert.ok(error <= small.tolerance, `${title}: ${error} from f64, allowed is ${small.tolerance}`);
    worst = Math.max(worst, error);
    run++;
    shuffled += plan.lanes === null ? 0 : 1;
    // The comparison bites, tried on every third: with one workgroup in place of all, the result is another.
    if (place % 3 > 0) continue;
    const broken = structuredClone(document);
    broken.programs[plan.program].launches.at(-1).groups = [1, 1, 1];
    if (document.programs[plan.program].launches.at(-1).groups.every((n) => n === 1)) continue;
    const less = await load(await part(broken, plan.program, bytes), { device });
    assert.ok(
      !((await errorOf(less, small, plan.program, oracle)) <= small.tolerance),
      `${title} without work`,
    );
    less.destroy();
    bitten++;
  }
  assert.ok(rungs.length >= 40 && run >= rungs.length - 4 - (f16 ? 0 : 8), `${run} of ${rungs.length} variants ran`);
  assert.ok(bitten > run / 5, `${bitten} were seen to be wrong with less work`);
  // A shader that was changed runs as it is now.
  const naive = page.ladders.find(({ name }) => name === "gemm").rungs[0].samples[0];
  const { module } = document.pipelines[document.programs[naive.plans[0].program].launches[0].pipeline];
  const text = new TextDecoder().decode(await bytes(module));
  const again = async (changed) => {
    const source = await part(document, naive.plans[0].program, bytes, { [module]: changed });
    const model = await load(source, { device });
    return errorOf(model, naive, naive.plans[0].program, oracle);
  };
  assert.ok((await again(`${text}\n// the same`)) <= naive.tolerance);
  const wrong = text.replace(/\bacc \+= |\bsum \+= |fma\(/, (found) =>
    found === "fma(" ? "0.5 * fma(" : `${found}0.5 * `,
  );
  assert.notEqual(wrong, text, "a product to spoil");
  assert.ok((await again(wrong)) > naive.tolerance, "a changed shader gives another result");
  await assert.rejects(again("fn main() {"), Refusal);
  const took = ((performance.now() - began) / 1000).toFixed(1);
  console.log(
    `kernels: ${run} of ${rungs.length} variants within ${worst.toExponential(1)} of f64 (${shuffled} by subgroups of ` +
      `${lanes}, ${refused} plans with subgroups or halves refused without them), ${bitten} seen to be wrong with less work, ${took} s`,
  );
}

// Every expression at each level.
{
  const { bytes, document, page } = exported("tape");
  let [worst, count, outputs] = [0, 0, 0];
  for (const { name, inputs, nodes, levels } of page.expressions) {
    assert.equal(levels.length, 3, name);
    for (const { program: own, launches, cpu, nodes: recorded } of levels) {
      assert.ok(recorded <= nodes.length);
      const dispatches = launches.reduce((sum, row) => sum + row.dispatches, 0);
      assert.equal(dispatches, document.programs[own].launches.length, own);
      const model = await load(await part(document, own, bytes), { device: plain });
      for (const { name: input, values } of inputs)
        if (model.programs[own].find("input", input) >= 0) model.programs[own].write(input, values);
      await model.programs[own].run();
      for (const { name: output, values } of cpu) {
        const error = relativeError(await model.programs[own].read(output), values);
        assert.ok(error <= 1e-5, `${own} ${output}: ${error}`);
        worst = Math.max(worst, error);
        outputs++;
      }
      model.destroy();
      count++;
    }
  }
  console.log(`tape: ${count} programs, ${outputs} outputs within ${worst.toExponential(1)} of the CPU's`);
}
console.log("kernels: all well");
process.exit(0);
