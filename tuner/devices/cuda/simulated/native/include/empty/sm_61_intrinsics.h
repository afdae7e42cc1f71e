/* what kernels include; cuda_on_host.h has it */
