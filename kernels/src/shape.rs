//! Sizes of convolutions, shared by forward and backward.

/// A 2-D convolution (cross-correlation) of one sample, zero padding on all sides:
///
/// `y[o][i][j] = bias[o] + sum_{c,u,v} w[o][c][u][v] * x[c][i*stride + u - padding][j*stride + v - padding]`
///
/// `x` is `[in_channels][in_height][in_width]`, `y` is `[out_channels][out_height()][out_width()]`, `w` is
/// `[out_channels][in_channels][kernel][kernel]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conv2d {
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub in_height: usize,
    pub in_width: usize,
}

impl Conv2d {
    /// # Panics
    /// When the kernel is larger than the padded input, or stride or kernel is 0.
    pub fn out_height(&self) -> usize {
        (self.in_height + 2 * self.padding).checked_sub(self.kernel).expect("kernel fits the input") / self.stride + 1
    }

    /// As [`out_height`](Self::out_height).
    pub fn out_width(&self) -> usize {
        (self.in_width + 2 * self.padding).checked_sub(self.kernel).expect("kernel fits the input") / self.stride + 1
    }

    /// Values of one input sample.
    pub fn input_len(&self) -> usize {
        self.in_channels * self.in_height * self.in_width
    }

    /// Values of one output sample.
    pub fn output_len(&self) -> usize {
        self.out_channels * self.out_height() * self.out_width()
    }

    pub fn weights_len(&self) -> usize {
        self.out_channels * self.in_channels * self.kernel * self.kernel
    }

    /// Multiply-accumulates of one sample's forward pass.
    pub fn macs(&self) -> usize {
        self.output_len() * self.in_channels * self.kernel * self.kernel
    }
}

/// A 2-D transposed convolution of one sample, the adjoint of a [`Conv2d`]:
///
/// `y[o][i*stride + u - padding][j*stride + v - padding] += w[c][o][u][v] * x[c][i][j]`, plus `bias[o]`.
///
/// `x` is `[in_channels][in_height][in_width]`, `y` is `[out_channels][out_height()][out_width()]`, `w` is
/// `[in_channels][out_channels][kernel][kernel]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConvTranspose2d {
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    /// Rows and columns added at the high edges of the output; less than `stride`.
    pub output_padding: usize,
    pub in_height: usize,
    pub in_width: usize,
}

impl ConvTranspose2d {
    /// # Panics
    /// When the padding eats the whole output.
    pub fn out_height(&self) -> usize {
        self.out_side(self.in_height)
    }

    /// As [`out_height`](Self::out_height).
    pub fn out_width(&self) -> usize {
        self.out_side(self.in_width)
    }

    fn out_side(&self, n: usize) -> usize {
        assert!(self.output_padding < self.stride);
        ((n - 1) * self.stride + self.kernel + self.output_padding)
            .checked_sub(2 * self.padding)
            .expect("padding leaves an output")
    }

    /// Values of one input sample.
    pub fn input_len(&self) -> usize {
        self.in_channels * self.in_height * self.in_width
    }

    /// Values of one output sample.
    pub fn output_len(&self) -> usize {
        self.out_channels * self.out_height() * self.out_width()
    }

    pub fn weights_len(&self) -> usize {
        self.out_channels * self.in_channels * self.kernel * self.kernel
    }

    /// Multiply-accumulates of one sample's forward pass.
    pub fn macs(&self) -> usize {
        self.input_len() * self.out_channels * self.kernel * self.kernel
    }

    /// The convolution whose backward pass to its input this is; same weights, same layout.
    pub fn adjoint(&self) -> Conv2d {
        Conv2d {
            in_channels: self.out_channels,
            out_channels: self.in_channels,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            in_height: self.out_height(),
            in_width: self.out_width(),
        }
    }
}

/// A rectangle of a feature map, in the map's own coordinates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    pub y0: usize,
    pub x0: usize,
    pub height: usize,
    pub width: usize,
}
