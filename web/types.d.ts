/** Types of ganomede.js: the fields of program.json as docs/web.md describes them, and what scoring gives. */
export interface InputInfo {
    height: number;
    width: number;
    channels: number;
    fit: string;
    standardise: boolean;
}
export interface MapInfo {
    smooth: number;
    relative: string[] | null;
    range: number[] | null;
    threshold: number | null;
}
export interface ThresholdInfo {
    value: number;
    source: string;
    held_out: { count: number; knots: number[] };
}
export interface SearchInfo {
    steps: number;
    restarts: number;
    lambda: number;
    lr: number;
    latent: number;
    start: string;
    key: number[];
}
export interface ScoreInfo {
    name: string;
    parts: string[];
    reconstruction: boolean;
    map: MapInfo | null;
    threshold: ThresholdInfo | null;
    search: SearchInfo | null;
}
export interface PipelineInfo {
    module: string;
    entry: string;
    constants: Record<string, number>;
    params: number;
    bindings: string;
}
export interface BufferInfo {
    len: number;
    role: string;
    name?: string;
    state?: number;
}
export interface Launch {
    scope: string;
    pipeline: number;
    groups: number[];
    bind: number[][];
    params: number[];
}
export interface ProgramInfo {
    buffers: BufferInfo[];
    launches: Launch[];
    unread: Record<string, number>;
}
export interface TrainInfo {
    batch: number;
    count: number;
    images: string;
    key: number[];
    stages: { name: string; parts: { program: string; every: number; losses: string[] }[] }[];
    sampler: { count: number; latent: number; prior: string } | null;
}
export interface Document {
    format: string;
    version: number;
    written_by: string;
    system: string;
    title: string;
    paper: string;
    files: Record<string, { bytes: number; sha256: string }>;
    weights: string;
    /** Null where there is neither a score nor a training: nothing reads it then. */
    input: InputInfo;
    score: ScoreInfo | null;
    train: TrainInfo | null;
    states: { name: string; len: number; stored: boolean }[];
    pipelines: PipelineInfo[];
    programs: Record<string, ProgramInfo>;
    /** Of exports with several trainings: their documents. */
    runs?: RunInfo[];
}
export interface RunInfo {
    file: string;
    data: string;
    way: string;
    about: string;
}

/** A folder's address, or what gives its files. */
export type Source = string | URL | ((name: string) => Promise<ArrayBuffer>);
/** 8-bit samples, interleaved: 1 gray, 2 gray and alpha, 3 colour, 4 colour and alpha. */
export interface Pixels {
    width: number;
    height: number;
    channels: number;
    data: ArrayLike<number>;
}
/** What can be scored; numbers are what the networks see, past preprocessing. */
export type ImageLike =
    Blob | ImageBitmap | HTMLImageElement | HTMLCanvasElement | HTMLVideoElement | Pixels | Float32Array;
/** The part of an image that the networks see, in its pixels; of padded images it reaches beyond them. */
export interface Frame {
    x: number;
    y: number;
    width: number;
    height: number;
}
export interface Found {
    score: number;
    parts: Record<string, number>;
    /** Milliseconds from the first write to the score. */
    ms: number;
    input: Float32Array;
    frame: Frame;
    reconstruction: Float32Array | null;
    map: Float32Array | null;
    threshold: number | null;
    anomalous: boolean | null;
    percentile: number | null;
}
export interface Step extends Found {
    step: number;
    steps: number;
    restart: number;
    loss: number;
    z: Float32Array;
}
export interface SearchOptions {
    steps?: number;
    lambda?: number;
    lr?: number;
    restarts?: number;
    /** Steps from one look to the next. */
    every?: number;
    onStep?: (step: Step) => boolean | void | Promise<boolean | void>;
}

export interface TrainOptions {
    /** Steps from here on. */
    steps?: number;
    /** Steps from one look at the losses to the next. */
    every?: number;
    stage?: number;
    onStep?: (step: {
        step: number;
        losses: Record<string, number>;
    }) => boolean | void | Promise<boolean | void>;
}
