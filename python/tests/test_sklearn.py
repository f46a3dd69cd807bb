"""scikit-learn's checks of estimators, as far as PyOD's conventions leave them room."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import ganomede

#: Checks that do not apply, each with its reason.
DIFFERENT = {
    "check_outliers_train": "predict gives 0 and 1, as in PyOD, not 1 and -1",
    "check_outliers_fit_predict": "predict gives 0 and 1, as in PyOD, not 1 and -1",
}


def failing(estimator):
    return DIFFERENT


@parametrize_with_checks(
    [ganomede.PCA(latent=1, device="cpu"), ganomede.GMM(device="cpu")], expected_failed_checks=failing
)
def test_checks(estimator, check):
    check(estimator)


def test_clones_and_pipelines():
    X = np.random.default_rng(0).normal(size=(200, 4))
    detector = clone(ganomede.PCA(latent=2, device="cpu", random_state=4))
    assert detector.get_params() == ganomede.PCA(latent=2, device="cpu", random_state=4).get_params()
    pipeline = make_pipeline(StandardScaler(), detector).fit(X)
    assert pipeline.predict(X).sum() <= 30
    assert pipeline.decision_function(np.full((1, 4), 20.0)) > pipeline[-1].threshold_
