//! Programs made smaller, as long as they fail.

use super::script::{Id, Make, Script, Value};

impl Script {
    /// The same without what nothing needs.
    pub(crate) fn pruned(&self) -> Script {
        let mut needed = vec![false; self.values.len()];
        self.outputs.iter().chain(self.assigns.iter().map(|(_, id)| id)).for_each(|&id| needed[id] = true);
        for id in (0..self.values.len()).rev() {
            if needed[id] {
                self.values[id].needs().into_iter().for_each(|i| needed[i] = true);
            }
        }
        let kept: Vec<Id> = (0..needed.len()).filter(|&id| needed[id]).collect();
        let name = |id: Id| kept.iter().position(|&k| k == id).expect("what is needed is kept");
        Script {
            values: kept.iter().map(|&id| self.values[id].renamed(name)).collect(),
            assigns: self.assigns.iter().map(|&(state, id)| (state, name(id))).collect(),
            outputs: self.outputs.iter().map(|&id| name(id)).collect(),
            whole: self.whole,
        }
    }

    /// Smaller programs that may still fail: an output or assignment less, or a value replaced by an input of
    /// its shape.
    pub(crate) fn smaller(&self) -> Vec<Script> {
        let mut found = vec![];
        for i in 0..self.outputs.len() {
            let mut script = self.clone();
            script.outputs.remove(i);
            found.push(script);
        }
        for i in 0..self.assigns.len() {
            let mut script = self.clone();
            script.assigns.remove(i);
            found.push(script);
        }
        for (id, value) in self.values.iter().enumerate() {
            // Readers read what it was made of, where the shapes allow it.
            for &other in value.inputs.iter().filter(|&&i| self.values[i].shape == value.shape) {
                let mut script = self.clone();
                for reader in &mut script.values {
                    *reader = reader.renamed(|i| if i == id { other } else { i });
                }
                script.outputs.iter_mut().for_each(|o| *o = if *o == id { other } else { *o });
                script.outputs.dedup();
                script.assigns.iter_mut().for_each(|(_, o)| *o = if *o == id { other } else { *o });
                found.push(script);
            }
            if !matches!(value.make, Make::Input(_)) {
                let mut script = self.clone();
                let used = self.values.iter().filter_map(|v| match v.make {
                    Make::Input(name) => Some(name),
                    _ => None,
                });
                let name = used.max().map_or(0, |name| name + 1);
                script.values[id] =
                    Value { make: Make::Input(name), inputs: vec![], shape: value.shape.clone() };
                found.push(script);
            }
            if let Make::Gradient { wrt, pick } = &value.make
                && wrt.len() > 1
            {
                let mut script = self.clone();
                script.values[id].make = Make::Gradient { wrt: vec![wrt[*pick]], pick: 0 };
                found.push(script);
            }
        }
        let plain = |script: &Script| {
            script.values.iter().all(|value| match &value.make {
                Make::Gradient { wrt, .. } => wrt.iter().all(|&w| script.is_plain(value.inputs[0], w)),
                _ => true,
            })
        };
        found.iter().map(Script::pruned).filter(|script| script != self && plain(script)).collect()
    }
}
