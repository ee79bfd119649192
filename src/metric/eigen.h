/* Eigenvalues and eigenvectors of a symmetric matrix. */
#ifndef JPT_METRIC_EIGEN_H
#define JPT_METRIC_EIGEN_H

#include <stdbool.h>
#include <stddef.h>

/* a [n, n] symmetric, row-major; receives the eigenvectors as rows, by falling eigenvalue.  value [n].  False when memory ran
 * out or, which does not happen for finite numbers, the iteration does not end.  Householder's reduction to three diagonals,
 * then QL steps with implicit shifts (Golub & Van Loan, 8.3; Wilkinson & Reinsch, II/3): about 9 n^3 operations. */
bool symmetric_eigen(double *a, size_t n, double *value);

#endif
