"""One class a system; ``systems()`` has their papers."""

from typing import ClassVar

from ._detector import BaseDetector


class AnoGAN(BaseDetector):
    """AnoGAN: a DCGAN, and a search for the latent of each image (Schlegl et al., IPMI 2017)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "anogan"


class FAnoGAN(BaseDetector):
    """f-AnoGAN: a Wasserstein GAN with an encoder in place of the search (Schlegl et al., Medical Image Analysis 2019)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "f-anogan"


class GANomaly(BaseDetector):
    """GANomaly: encoder, decoder, encoder; the distance of the latents (Akçay et al., ACCV 2018)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "ganomaly"


class SkipGANomaly(BaseDetector):
    """Skip-GANomaly: GANomaly as a U-Net (Akçay et al., IJCNN 2019)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "skip-ganomaly"


class EGBAD(BaseDetector):
    """EGBAD: a bidirectional GAN (Zenati et al., 2018)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "egbad"


class MemAE(BaseDetector):
    """MemAE: an autoencoder with a memory of normal latents (Gong et al., ICCV 2019)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "memae"


class ADAE(BaseDetector):
    """ADAE: two adversarial autoencoders (Vu et al., 2019)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "adae"


class DAGAN(BaseDetector):
    """DAGAN: two generators and two discriminators (Tang et al., Sensors 2020)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "dagan"


class BeatGAN(BaseDetector):
    """BeatGAN: an autoencoder under a discriminator, for beats and windows (Zhou et al., IJCAI 2019)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "beatgan"


class AE(BaseDetector):
    """A convolutional autoencoder."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "ae"


class VAE(BaseDetector):
    """A variational autoencoder (Kingma & Welling, ICLR 2014)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "vae"


class ACAE(BaseDetector):
    """An adversarially constrained autoencoder."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "acae"


class DeepSVDD(BaseDetector):
    """Deep SVDD: the distance from a centre in feature space (Ruff et al., ICML 2018)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "deep-svdd"


class PCA(BaseDetector):
    """Principal components: what they leave of a sample."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "pca"


class GMM(BaseDetector):
    """A Gaussian mixture."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "gmm"


class FeatureGaussian(BaseDetector):
    """A Gaussian at each place on features of a network trained here."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "feature-gaussian"


class KNN(BaseDetector):
    """Nearest neighbours on features of a network trained here, with a coreset."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "knn"


class NSA(BaseDetector):
    """NSA: finds patches of other normal images, blended in without a seam (Schlüter et al., ECCV 2022)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "nsa"


class DRAEM(BaseDetector):
    """DRAEM: repaints what other textures covered, and finds it (Zavrtanik et al., ICCV 2021)."""

    __doc__ = (__doc__ or "") + "\n\n" + (BaseDetector.__doc__ or "")
    _system: ClassVar[str] = "draem"
