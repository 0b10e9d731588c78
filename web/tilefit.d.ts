// The Tilefit decoder for browsers and Node. Decoding runs in a Worker; nothing is uploaded.

/**
 * Where the bytes of a file come from. A `Blob` (a `File` of an input or a drop) is read slice by slice, a URL by HTTP
 * ranges where the server has them: header and index first, then only the segments that a picture needs.
 */
export type Source = ArrayBuffer | Uint8Array | Blob | URL | string;

/** 1 is full size; a scale of 2, 4 or 8 is a picture of `ceil(side / scale)`. */
export type Scale = 1 | 2 | 4 | 8;

/** In pixels of the scaled picture. */
export interface Region {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface DecodeOptions {
  /** Which picture of a group, from 0 on. Default 0. */
  picture?: number;
  /** Default 1. */
  scale?: Scale;
  /**
   * `rgba` (the default) is what a canvas takes: 8 bits each, to which other depths are scaled so that the peak becomes 255;
   * alpha is not multiplied into the colours, and 255 for pictures without it; of bands the first three are shown.
   * `samples` has the file's channels at its depth, interleaved.
   */
  format?: "rgba" | "samples";
  /** Drops the request if it has not begun; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
  /**
   * Segments that cannot be read count as zeros instead of failing the decode; `Picture.damage` names them. Default
   * false.
   */
  partial?: boolean;
}

export interface Picture {
  width: number;
  height: number;
  /** 4 for `rgba`; else the file's. */
  channels: number;
  /**
   * `height * width * channels`. `new ImageData(data, width, height)` takes it as it is for `rgba`. A `Uint16Array` for
   * `samples` of more than 8 bits.
   */
  data: Uint8ClampedArray | Uint16Array;
  /** Milliseconds of decoding, without reading the bytes. */
  decodeTime: number;
  /** Bytes of the file that were fetched since the last decode; the first counts those of opening too. */
  fetchedBytes: number;
  /** One sentence a segment that counted as zeros; empty unless `partial` was asked for. */
  damage: string[];
}

export interface PictureInfo {
  width: number;
  height: number;
  /** CRC-32 of the decoded samples, interleaved, those of more than 8 bits as two bytes, the lower first: eight hexadecimal digits. */
  digest: string;
  /** Tiles a row and a column; 1 and 1 if the picture is one tile. */
  columns: number;
  rows: number;
  /** Bytes of each tile, row by row, all its layers together: `columns * rows` numbers. */
  tileBytes: number[];
}

export interface Info {
  version: number;
  /** The model family: `"gdn"`, `"hyperprior"`, `"pyramid"`, `"lossless"`, or `"planes"` for several models in one file. */
  model: string;
  /** 1 to 16, alpha included. Without alpha 1 is grey, 3 are red, green and blue, and others are bands. */
  channels: number;
  /** Bits of a sample, 8 to 16. */
  depth: number;
  /** Whether the last channel is alpha: 0 is transparent, the peak opaque, not multiplied into the others. */
  alpha: boolean;
  pictures: PictureInfo[];
  /** Of the whole file. The next four add up to it. */
  bytes: number;
  headerBytes: number;
  weightsBytes: number;
  codesBytes: number;
  metadataBytes: number;
  weightsCount: number;
  /** Multiplications a pixel of a decode. */
  macsPerPixel: number;
  /** Side of a tile in pixels; 0: each picture is one tile. */
  tile: number;
  /** Tiles of all pictures. */
  tiles: number;
  /** Segments a tile: 2 where a preview at 1/8 reads a coarse part alone. */
  layers: number;
  /** Most that decoding one picture holds at once. */
  decodeMemoryBytes: number;
  /**
   * The metadata section, as docs/FORMAT.md describes it. Its ICC profiles and XMP packets are zlib streams, which
   * `DecompressionStream("deflate")` inflates.
   */
  metadata: Uint8Array;
}

/** A failure in one sentence, the same that the command line prints. */
export class TilefitError extends Error {
  /** `damaged`: breaks the format; `unsupported`: needs a newer program; `limit`: too large; `usage`: the request makes
   * no sense; `io`: the bytes could not be read; `defect`: a fault of Tilefit itself. */
  readonly kind: "damaged" | "unsupported" | "limit" | "usage" | "io" | "defect";
}

/** A file that stays open: header and model are read once. */
export interface TilefitFile {
  readonly info: Info;
  decode(options?: DecodeOptions): Promise<Picture>;
  decodeRegion(region: Region, options?: DecodeOptions): Promise<Picture>;
  /** Frees what the Worker holds. */
  close(): Promise<void>;
}

/** Opens a file. The name of a failing file is not in the message: callers know it. */
export function open(source: Source): Promise<TilefitFile>;
export function info(source: Source): Promise<Info>;
export function decode(source: Source, options?: DecodeOptions): Promise<Picture>;
export function decodeRegion(source: Source, region: Region, options?: DecodeOptions): Promise<Picture>;

/** Which build runs: `simd` where the engine has simd128. */
export function build(): Promise<"simd" | "plain">;

/** Ends the Worker; the next call starts another. */
export function shutdown(): void;
