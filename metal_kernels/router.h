enum RouterScore { ROUTER_SOFTMAX = 0, ROUTER_SOFTMAX_TOPK = 1, ROUTER_SIGMOID = 2 };
// Maxima of numbers and what is none differ between GPUs, so there is none among what is compared.
inline float largest_if_none(float value) { return isnan(value) ? INFINITY : value; }
